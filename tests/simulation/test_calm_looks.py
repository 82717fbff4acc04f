"""What runs cost the API server while customers meet a healthy version and nothing happens."""

from collections import Counter
from collections.abc import Callable

import pytest
from sim_faults import asked
from sim_street import Street, short_policy

from canary.kube.transport import Response, Transport
from canary.lab import manifests
from canary.operator.whole import WHOLE_SECONDS, believed_until

STAYS = [{"weight": "5%"}, {"weight": "100%", "approval": True}]
WATCHED_SECONDS = 300.0


@pytest.mark.parametrize(("every", "writes"), [("1s", 150), ("5s", 30), ("30s", 10)])
def test_a_calm_run_is_written_at_every_second_look_or_every_ten_seconds(every: str, writes: int) -> None:
    sent: Counter[str] = Counter()

    def wire(transport: Transport) -> Transport:
        def ask(method: str, path: str, send: Callable[[], Response]) -> Response:
            sent["writes"] += method == "PATCH" and "/canaryruns/" in path
            return send()

        return asked(transport, ask)

    scrape = {"port": manifests.PORT_NAME, "path": "/metrics", "every": every}
    street = Street(wire=wire, policy=short_policy(steps=STAYS, source={"scrape": scrape}))
    street.push()
    assert street.run_until(lambda: street.route_ppm() > 0, 400), street.told()
    street.run_for(2 * WHOLE_SECONDS)
    sent.clear()
    street.run_for(WATCHED_SECONDS)
    assert street.route_ppm() == 50_000, street.told()
    assert sent["writes"] == pytest.approx(writes, rel=0.1)


def test_whole_looks_at_hundreds_of_runs_that_began_together_are_spread() -> None:
    began = 1_000.0
    waits = [believed_until(f"5f0c7c1e-0000-4000-8000-{n:012d}", began) - began for n in range(300)]
    assert min(waits) > 0.0
    assert max(waits) <= WHOLE_SECONDS
    fifths = Counter(int(5 * wait / (WHOLE_SECONDS + 1)) for wait in waits)
    assert len(fifths) == 5
    assert max(fifths.values()) < 1.5 * min(fifths.values()), fifths


def test_the_next_whole_look_comes_half_a_minute_after_the_last() -> None:
    until = believed_until("5f0c7c1e-0000-4000-8000-000000000001", 1_000.0)
    assert believed_until("5f0c7c1e-0000-4000-8000-000000000001", until) == until + WHOLE_SECONDS
