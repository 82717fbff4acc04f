"""Write the answer of a request into its status: what was done, or why not and what would help.

Both tickers call it, the one of runs and the one of policies; `canary wait` and `promote` read it.
"""

from typing import Any

from canary.api.reasons import Reason
from canary.api.types import format_timestamp
from canary.core.decision import Answer
from canary.kube.client import Intent
from canary.kube.resources import CANARYREQUESTS
from canary.operator.hands import Hands


def answer(hands: Hands, namespace: str, reply: Answer) -> None:
    """Answer one request; idempotent, and no harm where it is gone."""
    status: dict[str, Any] = {
        "outcome": "Done" if reply.done else "Refused",
        "reason": (Reason.REQUEST_DONE if reply.done else Reason.REQUEST_REFUSED).value,
        "message": reply.message[:1024],
        "handledAt": format_timestamp(hands.clock.now()),
    }
    ref = CANARYREQUESTS.at(namespace, reply.name)
    hands.client.merge_patch(ref, {"status": status}, intent=Intent.LOWERING, subresource="status")
