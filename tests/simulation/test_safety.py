"""Safety policies at work on a whole simulated cluster: approvals, a freeze, an end, and the brake of all brakes."""

from collections.abc import Callable
from typing import Any

from security_key import SecurityKey
from sim_faults import asked
from sim_street import COLLAPSE, Street, short_policy

from canary.api.change import ChangeAnnotation
from canary.api.people import People
from canary.api.reasons import Phase, Reason, Verb
from canary.api.safety import Strength
from canary.core.rules.approvals import signed_text
from canary.errors import UnavailableError
from canary.kube.client import Client, Intent
from canary.kube.resources import CANARYPOLICIES, CANARYREQUESTS, DEPLOYMENTS, NAMESPACES, SAFETYPOLICIES
from canary.kube.transport import Response, Transport
from canary.lab import manifests
from canary.lab.apiserver.admission import User

PEOPLE = People.model_validate(
    {"people": [{"name": name, "usernames": [name]} for name in ("dana", "sam", "priya")]}
)
SAM, PRIYA = User("sam", ("devs",)), User("priya", ("devs", "seniors"))
DANA = User("dana", ("devs", "seniors"))
RESET: dict[str, Any] = {
    "appliesTo": {"tiers": [1, 2]},
    "approvals": {"count": 2, "senior": 1, "approverGroups": ["devs"], "seniorGroups": ["seniors"]},
    "exposure": {"unapprovedMax": "5%", "firstSliceMax": "5%", "maxStepRatio": 20},
}
STEPS = [{"weight": "5%"}, {"weight": "100%"}]


def ruled(street: Street, name: str = "reset", **fields: Any) -> None:
    manifest = SAFETYPOLICIES.at("", name).manifest(spec={**RESET, **fields})
    street.admin.create(SAFETYPOLICIES, manifest, intent=Intent.NEUTRAL)
    street.run_for(2.0)


def amended(street: Street, name: str = "reset", **fields: Any) -> None:
    street.admin.merge_patch(SAFETYPOLICIES.at("", name), {"spec": fields}, intent=Intent.NEUTRAL)


def a_street(**fields: Any) -> Street:
    """A shop of tier 2 whose next change is dana's; nobody approves by the way."""
    people, wire = fields.pop("people", PEOPLE), fields.pop("wire", None)
    street = Street(policy=short_policy(**{"steps": STEPS, "tier": 2, **fields}), people=people, wire=wire)
    record = {ChangeAnnotation.AUTHORS.value: "dana"}
    patch = {"metadata": {"annotations": record}}
    street.admin.merge_patch(
        DEPLOYMENTS.at(manifests.NAMESPACE, manifests.NAME), patch, intent=Intent.NEUTRAL
    )
    return street


def until(street: Street, phase: Phase, *, reason: Reason | None = None, limit: float = 240.0) -> None:
    def reached() -> bool:
        run = street.latest_run()
        return run is not None and run.status.phase is phase and reason in (None, run.status.reason)

    assert street.run_until(reached, limit), street.told()


def approve(street: Street, user: User, **fields: Any) -> dict[str, Any]:
    name = street.ask(Verb.APPROVE, user, digest=street.run.spec.digest, **fields)
    street.run_for(3.0)
    return street.stored("CanaryRequest", name)["status"]


def test_a_change_passes_its_cap_with_two_people_one_a_senior_and_neither_its_author():
    street = a_street()
    ruled(street)
    street.push()
    until(street, Phase.PROGRESSING, reason=Reason.APPROVALS_MISSING)
    assert street.route_ppm() == 50_000
    own = approve(street, DANA)
    assert own["outcome"] == "Refused"
    assert own["message"].startswith("you wrote this change, so your approval does not count. Now: has none")
    assert (
        approve(street, SAM)["message"]
        == "recorded; has sam, needs 1 senior of devs, seniors who is not dana"
    )
    street.run_for(10.0)
    assert street.route_ppm() == 50_000
    assert approve(street, PRIYA)["outcome"] == "Done"
    until(street, Phase.PROMOTED)
    assert [each.person for each in street.run.status.approvals] == ["sam", "priya"]
    assert not street.breaches


def test_the_api_server_itself_refuses_a_weight_above_the_cap_without_the_approvals():
    street = a_street()
    ruled(street)
    street.push()
    until(street, Phase.PROGRESSING, reason=Reason.APPROVALS_MISSING)
    stored = street.stored("CanaryRun", street.run.name)
    assert stored["spec"]["safety"]["unapprovedMaxPpm"] == 50_000
    assert stored["status"]["allowedWeightPpm"] == 50_000


def test_a_lost_right_takes_the_slice_away_within_seconds():
    street = a_street()
    ruled(street, exposure={**RESET["exposure"], "unapprovedMax": "0%"})
    street.push()
    until(street, Phase.HELD, reason=Reason.APPROVALS_MISSING)
    assert {approve(street, user)["outcome"] for user in (SAM, PRIYA)} == {"Done"}
    until(street, Phase.PROGRESSING, reason=Reason.EVIDENCE_GROWING)
    street.cluster.server.denied.add(("priya", "approve"))
    assert street.run_until(lambda: street.route_ppm() == 0, 10.0), street.told()
    until(street, Phase.PAUSED, reason=Reason.APPROVALS_MISSING)


class SlowRights:
    """An API server that stands still, from some moment on, when it is asked what somebody may do."""

    def __init__(self) -> None:
        self.wait: Callable[[float], None] | None = None

    def wire(self, transport: Transport) -> Transport:
        return asked(transport, self._ask)

    def _ask(self, method: str, path: str, send: Callable[[], Response]) -> Response:
        if self.wait is not None and path.endswith("/subjectaccessreviews"):
            self.wait(30.0)
            raise UnavailableError("no answer")
        return send()


def test_an_abort_waits_for_no_question_about_rights():
    rights = SlowRights()
    street = a_street(wire=rights.wire)
    ruled(street, exposure={**RESET["exposure"], "unapprovedMax": "0%"})
    street.push()
    until(street, Phase.HELD, reason=Reason.APPROVALS_MISSING)
    assert {approve(street, user)["outcome"] for user in (SAM, PRIYA)} == {"Done"}
    until(street, Phase.PROGRESSING, reason=Reason.EVIDENCE_GROWING)
    street.clock.sleep(10.0)  # until the answers of before are too old
    rights.wait = street.clock.sleep
    asked_at = street.clock.monotonic()
    street.ask(Verb.ABORT, SAM)
    assert street.run_until(lambda: street.route_ppm() == 0, 60.0), street.told()
    assert street.clock.monotonic() - asked_at < 5.0


def test_a_freeze_stops_what_rises_and_a_rollback_passes_through_it():
    street = a_street()
    ruled(street, approvals={"count": 0, "senior": 0})
    street.push({**COLLAPSE, "SHOP_BUG_AFTER": "20"})
    until(street, Phase.PROGRESSING, reason=Reason.EVIDENCE_GROWING)
    amended(street, freezes=[{"name": "peak", "from": "2000-01-01T00:00", "to": "2100-01-01T00:00"}])
    until(street, Phase.ROLLED_BACK)
    assert street.run.status.analysis.lost
    assert street.route_ppm() == 0


def test_a_freeze_holds_a_change_before_it_starts():
    street = a_street()
    freeze = {
        "name": "peak",
        "from": "2000-01-01T00:00",
        "to": "2100-01-01T00:00",
        "timezone": "Europe/Berlin",
    }
    ruled(street, approvals={"count": 0, "senior": 0}, freezes=[freeze])
    street.push()
    until(street, Phase.HELD, reason=Reason.FROZEN)
    street.run_for(30.0)
    assert street.phase is Phase.HELD
    amended(street, freezes=[])
    until(street, Phase.PROMOTED)


def test_a_stricter_policy_ends_the_run_and_the_next_one_has_its_terms():
    street = a_street()
    ruled(street, approvals={"count": 0, "senior": 0})
    street.push()
    until(street, Phase.PROGRESSING, reason=Reason.EVIDENCE_GROWING)
    first = street.run.name
    amended(street, approvals=RESET["approvals"])
    assert street.run_until(lambda: street.run.name != first, 60.0), street.told()
    assert street.stored("CanaryRun", first)["status"]["phase"] == "Superseded"
    until(street, Phase.PROGRESSING, reason=Reason.APPROVALS_MISSING)
    assert street.run.spec.safety.approvals == 2


def test_a_policy_that_cannot_be_read_lets_nothing_rise():
    street = a_street()
    ruled(street)
    amended(street, exposure={"firstSliceMax": "0%"})
    street.push()
    until(street, Phase.HELD, reason=Reason.APPROVALS_MISSING)
    assert street.run.spec.safety.unapproved_max_ppm == 0
    assert approve(street, SAM)["outcome"] == "Refused"


def test_a_change_waits_until_there_is_a_place_for_it():
    street = a_street()
    ruled(street, approvals={"count": 0, "senior": 0}, limits={"perCluster": 0})
    street.push()
    until(street, Phase.HELD, reason=Reason.LIMIT_REACHED)
    amended(street, limits={"perCluster": 1})
    until(street, Phase.PREPARING)


def test_a_known_failure_pattern_refuses_in_tier_1_and_waits_for_a_senior_elsewhere():
    street = a_street(tier=1)
    ruled(street)
    street.push()
    until(street, Phase.HELD, reason=Reason.PATTERN_REFUSED)
    assert street.run.status.message.startswith("KP-103: the image of shop is named by a tag")
    named = {finding.id: finding.strength for finding in street.run.spec.findings}
    assert named == {"KP-103": Strength.REFUSE}

    street = a_street()
    ruled(street, patterns={"approve": ["KP-103"]}, exposure={**RESET["exposure"], "unapprovedMax": "100%"})
    street.push()
    until(street, Phase.HELD, reason=Reason.PATTERN_REFUSED)
    approve(street, SAM, accepts=["KP-103"])
    street.run_for(5.0)
    assert street.phase is Phase.HELD
    approve(street, PRIYA, accepts=["KP-103"])
    until(street, Phase.PROMOTED)


def test_a_rollback_pulls_the_brake_and_only_a_persons_resume_in_our_namespace_lets_it_go():
    street = a_street()
    no_wait = {"cooldown": "0s", "groupCooldown": "0s", "brake": {"rollbacks": 1}}
    ruled(street, approvals={"count": 0, "senior": 0}, limits=no_wait)
    street.push(COLLAPSE)
    until(street, Phase.ROLLED_BACK)
    street.tidied()
    street.push(version="v2.32.0")
    until(street, Phase.HELD, reason=Reason.LIMIT_REACHED)
    street.run_for(20.0)
    policy = SAFETYPOLICIES.at("", "reset")
    braked = street.admin.get(policy)
    assert braked is not None
    assert "1 rollbacks within 60 min: shop/checkout" in braked["status"]["brake"]["message"]
    assert [each["reason"] for each in braked["status"]["notices"]] == ["BrakePulled"]

    street.admin.create(NAMESPACES, manifests.namespace("canary-system"), intent=Intent.NEUTRAL)
    subject = {"kind": "SafetyPolicy", "name": "reset", "uid": braked["metadata"]["uid"]}
    spec = {"verb": "resume", "subject": subject, "reason": "read the rollback; its cause is fixed"}
    person = Client(street.cluster.transport(PRIYA))
    for namespace, released in ((manifests.NAMESPACE, False), ("canary-system", True)):
        ref = CANARYREQUESTS.at(namespace, "let-go")
        person.create(CANARYREQUESTS, ref.manifest(spec=spec), intent=Intent.NEUTRAL)
        street.run_for(20.0)
        assert ("brake" not in (street.admin.get(policy) or {})["status"]) is released
    until(street, Phase.PROMOTED)


def test_coverage_is_counted_and_a_workload_that_is_let_go_is_missed():
    street = a_street()
    ruled(street, appliesTo={"tiers": [2], "expected": 3}, approvals={"count": 0, "senior": 0})
    street.run_for(20.0)
    stored = (street.admin.get(SAFETYPOLICIES.at("", "reset")) or {})["status"]
    assert (stored["covered"], stored["inForce"]) == (1, True)
    place = CANARYPOLICIES.at(manifests.NAMESPACE, manifests.NAME)
    street.admin.merge_patch(place, {"spec": {"mode": "Observe"}}, intent=Intent.NEUTRAL)
    street.run_for(40.0)
    stored = (street.admin.get(SAFETYPOLICIES.at("", "reset")) or {})["status"]
    assert stored["covered"] == 0
    assert [each["title"] for each in stored["notices"]] == [
        "ACTION NEEDED - safety policy reset: 1 fewer than before: 0 of 3 tier-2 workloads are held; "
        "not held are shop/checkout"
    ]


def test_in_strong_mode_only_a_touched_security_key_approves():
    key, stranger = SecurityKey(), SecurityKey()
    people = [{"name": name, "usernames": [name]} for name in ("dana", "sam")]
    people.append({"name": "priya", "usernames": ["priya"], "keys": [key.line]})
    street = a_street(people=People.model_validate({"people": people}))
    strong = {**RESET["approvals"], "count": 1, "presence": "Required"}
    ruled(street, approvals=strong, exposure={**RESET["exposure"], "unapprovedMax": "0%"})
    street.push()
    until(street, Phase.HELD, reason=Reason.APPROVALS_MISSING)
    run = street.run
    text = signed_text("approve", f"{run.namespace}/{run.name}", run.spec.digest, "priya")
    for signature in ("", "nonsense", stranger.sign(text), key.sign(text.replace("priya", "sam"))):
        refused = approve(street, PRIYA, signature=signature)
        assert refused["message"].startswith("it carries no verified signature of your security key")
    assert street.phase is Phase.HELD
    assert approve(street, PRIYA, signature=key.sign(text))["outcome"] == "Done"
    until(street, Phase.PROMOTED)


def test_a_bypass_goes_past_the_rules_and_two_others_review_it_before_the_next_change():
    street = a_street()
    ruled(street, exposure={**RESET["exposure"], "unapprovedMax": "0%"})
    street.push()
    until(street, Phase.HELD, reason=Reason.APPROVALS_MISSING)
    why = "INC-481: payments are down, the hotfix was verified by hand with Priya"
    street.ask(Verb.BYPASS, DANA, reason=why)
    until(street, Phase.PROMOTED)
    assert not street.breaches
    run = street.run
    assert run.status.bypass is not None
    assert run.status.bypass.requester == "dana"
    assert "BypassUsed" in [notice.reason for notice in run.status.notices]
    street.tidied()

    street.push(version="v2.32.0")
    street.run_for(40.0)
    assert street.run.name == run.name
    held = next(
        each for each in street.stored("CanaryPolicy")["status"]["conditions"] if each["type"] == "Ready"
    )
    assert held["reason"] == "BypassUsed"
    assert held["message"].startswith(f"break-glass by dana in {run.name} is reviewed by 0 of 2 people")
    said = [approve(street, user)["message"] for user in (DANA, SAM, SAM)]
    assert said == [
        "dana used the bypass; two others review it",
        "reviewed by 1 of 2 people",
        "sam reviewed it already",
    ]
    street.run_for(40.0)
    assert street.run.name == run.name
    assert approve(street, PRIYA)["message"] == "reviewed by 2 of 2 people"
    until(street, Phase.HELD, reason=Reason.APPROVALS_MISSING)
    assert street.run.name != run.name


def word_on(street: Street, verb: Verb, user: User, **fields: Any) -> dict[str, Any]:
    """Ask for something about the safety policy, where few may; return the answer."""
    policy = street.admin.get(SAFETYPOLICIES.at("", "reset")) or {}
    subject = {"kind": "SafetyPolicy", "name": "reset", "uid": policy["metadata"]["uid"]}
    spec = {"verb": verb.value, "subject": subject, "reason": "read both texts; the peak is over", **fields}
    ref = CANARYREQUESTS.at("canary-system", f"word-of-{user.name}")
    client = Client(street.cluster.transport(user))
    client.create(CANARYREQUESTS, ref.manifest(spec=spec), intent=Intent.NEUTRAL)
    street.run_for(20.0)
    return (street.admin.get(ref) or {})["status"]


def test_s11_a_weakened_policy_rules_on_until_two_people_who_count_have_approved_it():
    street = a_street()
    street.admin.create(NAMESPACES, manifests.namespace("canary-system"), intent=Intent.NEUTRAL)
    ruled(street)
    reset = SAFETYPOLICIES.at("", "reset")
    by = {"metadata": {"annotations": {ChangeAnnotation.AUTHORS.value: "dana"}}}
    street.admin.merge_patch(reset, by, intent=Intent.NEUTRAL)
    amended(street, exposure={"unapprovedMax": "100%"}, approvals={"count": 1})
    street.push()
    until(street, Phase.PROGRESSING, reason=Reason.APPROVALS_MISSING)
    street.run_for(120.0)
    assert street.route_ppm() == 50_000, "the former cap holds"
    assert street.run.spec.safety.approvals == 2
    stored = (street.admin.get(reset) or {})["status"]
    weaker = stored["weaker"]
    assert weaker["fields"] == ["approvals.count", "exposure.unapprovedMax"]
    assert [each["reason"] for each in stored["notices"]] == ["PolicyWeaker"]

    street.restart()
    assert word_on(street, Verb.APPROVE, DANA, digest=weaker["digest"])["outcome"] == "Refused"
    assert word_on(street, Verb.APPROVE, SAM, digest=weaker["digest"])["outcome"] == "Done"
    assert street.route_ppm() == 50_000
    first = street.run.name
    said = word_on(street, Verb.APPROVE, PRIYA, digest=weaker["digest"])
    assert said["message"] == "recorded; that is all: the text is in force"
    assert street.run_until(lambda: street.run.name != first, 60.0), "a new run begins under other rules"
    until(street, Phase.PROMOTED)
    assert "weaker" not in (street.admin.get(reset) or {})["status"]
