"""The thaw: autoscalers frozen for a run may scale down again when stable has carried all traffic for a while.

An autoscaler remembers for its stabilisation window how idle the pods were. Until that has passed with all customers
back, it would take away what they need; so the window is counted here, from when this process first saw no run under
way. A restart counts anew: too long is safe. `policies.py` asks at every look at a policy.
"""

from canary.clock import Clock
from canary.core.policy_look import Policy
from canary.kube import autoscaler
from canary.kube.client import Client


class Thawing:
    """Thaws the autoscalers of policies' targets; kept by uid of the policy."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._calm_since: dict[str, float] = {}
        self._thawed: set[str] = set()

    def look(self, policy: Policy, *, busy: bool) -> float:
        """Thaw what is due; return the seconds until the rest is, 0 where nothing is frozen."""
        if busy:
            self._calm_since.pop(policy.uid, None)
            self._thawed.discard(policy.uid)
            return 0.0
        if policy.uid in self._thawed:
            return 0.0
        found = autoscaler.autoscalers(self._client, policy.namespace, policy.spec.target.name)
        frozen = [each for each in found if autoscaler.is_frozen(each)]
        now = self._clock.monotonic()
        left = autoscaler.window_seconds(frozen) + self._calm_since.setdefault(policy.uid, now) - now
        if frozen and left > 0:
            return left
        for each in frozen:
            autoscaler.thaw(self._client, each)
        self._calm_since.pop(policy.uid)
        self._thawed.add(policy.uid)
        return 0.0
