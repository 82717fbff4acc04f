"""One look at a safety policy: whether it is in force, whom it covers, what people must be told of it.

Gathers from the caches, lets `core.oversight` decide, writes the status where it changed, and hands what is due to the
couriers. What a policy asks of a change is not decided here: the tickers of runs and policies ask the rulebook.
"""

from collections.abc import Mapping

from canary.api.read import InvalidObject, parse_safety, parse_safety_status
from canary.api.safety import SafetyPolicySpec, SafetyPolicyStatus
from canary.core.evidence import Directive, Missing, Safety
from canary.core.rules.effective import STRICTEST, Standing, standing, weaker_fields
from canary.core.rules.oversight import Watched, oversee
from canary.core.rules.weakening import (
    Weakening,
    Weaker,
    digest_of,
    rules_of_weakening,
    text_in_force,
)
from canary.core.telling.stored import under
from canary.kube.cache import Cache
from canary.kube.client import Intent
from canary.kube.patches import merge_diff
from canary.kube.resources import CANARYPOLICIES, CANARYREQUESTS, SAFETYPOLICIES, Key
from canary.operator.hands import Hands, answer
from canary.operator.look import or_missing
from canary.operator.objects import Asked, Json, directives_for
from canary.operator.rulebook import Rulebook, approved_of
from canary.operator.tell import Teller

LOOK_SECONDS = 15.0


class SafetyTicker:
    """Looks at safety policies, one at a time per name."""

    def __init__(self, hands: Hands, teller: Teller, rulebook: Rulebook, caches: Mapping[str, Cache]) -> None:
        self._hands = hands
        self._teller = teller
        self._rulebook = rulebook
        self._caches = caches

    def tick(self, name: str) -> float | None:
        """Look once; return the seconds until the next look, None where the policy is gone."""
        stored = self._caches[SAFETYPOLICIES.plural].get(Key("", name))
        if stored is None:
            return None
        watched = self._watched(stored)
        incident = self._teller.of_safety_policy(watched.name, watched.uid)
        overseen = oversee(watched, self._hands.clock.now())
        notices = self._teller.collected(overseen.status.notices, incident)
        status = overseen.status.model_copy(update={"notices": notices})
        self._write(stored, status)
        for reply in overseen.answers:
            answer(self._hands, self._hands.system, reply)
        owed = self._teller.send(notices, incident)
        return LOOK_SECONDS if owed is None else min(LOOK_SECONDS, max(1.0, owed))

    def _watched(self, stored: Json) -> Watched:
        meta, written, trouble = stored["metadata"], None, ""
        try:
            written = parse_safety(stored)
        except InvalidObject as error:
            trouble = str(error)
        spec = text_in_force(approved_of(stored), written) if written is not None else None
        rules = spec or STRICTEST
        known = {**self._rulebook.policies(), meta["name"]: rules}
        status, held = parse_safety_status(stored), self._held(rules)
        return Watched(
            written=written,
            weakening=self._weakening(stored, written) if written is not None else None,
            name=meta["name"],
            uid=meta["uid"],
            generation=int(meta.get("generation", 0)),
            spec=spec,
            status=status,
            standing=standing(meta["name"], known, self._hands.clock.now()) if spec else Standing.IN_FORCE,
            covered=status.covered if held is None else sum(held.values()),
            unheld=() if held is None else tuple(name for name, is_held in held.items() if not is_held),
            safety=Safety((meta["name"],), rules, "", neighbours=self._rulebook.neighbours("")),
            directives=self._directives(meta["uid"], meta["name"]),
            trouble=trouble,
        )

    def _held(self, spec: SafetyPolicySpec) -> dict[str, bool] | None:
        """Return each workload of its tiers that has a CanaryPolicy, and whether it is held; None: nobody knows."""
        cache = self._caches[CANARYPOLICIES.plural]
        if not cache.synced:
            return None
        tiers = set(spec.applies_to.tiers)
        policies = [each for each in cache.list() if self._tier_of(each) in tiers]
        return {
            f"{each['metadata']['namespace']}/{under(each, 'spec', 'target', 'name')}": is_held(each)
            for each in policies
        }

    def _tier_of(self, stored: Json) -> object:
        try:
            return self._hands.policies.read(stored).spec.tier
        except InvalidObject:
            return under(stored, "spec", "tier") or 1

    def _directives(self, uid: str, name: str) -> tuple[Directive, ...]:
        """Return what people ask of the policy: in the controller's own namespace, where few may ask."""
        requests = or_missing(lambda: self._hands.client.list(CANARYREQUESTS, self._hands.system))
        if isinstance(requests, Missing):
            return ()
        return directives_for(requests, Asked(SAFETYPOLICIES.kind, uid, name))

    def _weakening(self, stored: Json, written: SafetyPolicySpec) -> Weakening | None:
        """Return what people said of a text that is weaker than the approved one; None where it is not."""
        approved, meta = approved_of(stored), stored["metadata"]
        fields = weaker_fields(approved, written) if approved is not None else []
        if approved is None or not fields:
            return None
        requests = or_missing(lambda: self._hands.client.list(CANARYREQUESTS, self._hands.system))
        rules = rules_of_weakening(meta["name"], approved, self._rulebook.policies(), self._hands.clock.now())
        return self._rulebook.weakening(
            stored,
            Asked(SAFETYPOLICIES.kind, meta["uid"], meta["name"]),
            [] if isinstance(requests, Missing) else requests,
            Weaker(fields, digest_of(written), rules),
        )

    def _write(self, stored: Json, status: SafetyPolicyStatus) -> None:
        patch = merge_diff(dict(stored.get("status") or {}), status.wire())
        if not patch:
            return
        body = {"metadata": {"resourceVersion": stored["metadata"]["resourceVersion"]}, "status": patch}
        ref = SAFETYPOLICIES.at("", stored["metadata"]["name"])
        self._hands.client.merge_patch(ref, body, intent=Intent.NEUTRAL, subresource="status")


def is_held(policy: Json) -> bool:
    """Tell whether a stored CanaryPolicy holds its workload: it has adopted it, and has not given it back."""
    return under(policy, "status", "adopted") is True
