"""What went past the rules is reviewed by two people before anything else begins; if it is not, people are called."""

import time
from datetime import timedelta

from sim_street import PLACE, Street, everything_is_back, reapply_the_old_manifest, short_policy
from test_safety import DANA, PEOPLE, PRIYA, RESET, SAM, STEPS, ruled

from canary.alerts.outbox import Subscription
from canary.alerts.sink import Couriers, Page
from canary.api.change import ChangeAnnotation
from canary.api.reasons import Opening, Phase, Reason, Verb
from canary.core.telling.page_texts import Place
from canary.kube.client import Client, Intent
from canary.kube.resources import CANARYREQUESTS, DEPLOYMENTS
from canary.lab import manifests
from canary.lab.apiserver.admission import User
from canary.lab.apiserver.protocol import ApiServer, InProcessTransport
from canary.lab.rehearsal.scenario import PORT, build_hands
from canary.operator.controller import Controller
from canary.operator.tell import Teller

EVIL = "v6.6.6"
LEE = User("lee", ("system:masters",))
WHY = "INC-481: payments are down, the hotfix was verified by hand with Priya"


class Pager:
    """A sink that keeps what it is sent."""

    name, repeat_seconds = "pager", 0.0

    def __init__(self) -> None:
        self.pages: list[Page] = []

    def send(self, page: Page) -> None:
        self.pages.append(page)


class Called(Street):
    """A street of dana's in tier 2 whose controller has a pager."""

    def __init__(self) -> None:
        self.pager = Pager()
        super().__init__(policy=short_policy(steps=STEPS, tier=2), people=PEOPLE)
        authors = {ChangeAnnotation.AUTHORS.value: "dana"}
        self.write({"metadata": {"annotations": authors}})

    def restart(self) -> None:
        hands = build_hands(self.cluster, self.clock, self.shop, self.setting)
        couriers, heard = Couriers({self.pager.name: self.pager}), [Subscription(self.pager.name)]
        self.controller = Controller(hands, Teller(hands, couriers, lambda _: heard, place=Place("lab")))

    def write(self, patch: dict[str, object], user: User = LEE) -> None:
        past_the_guard = Client(InProcessTransport(ApiServer(self.cluster.store), user), clock=self.clock)
        past_the_guard.merge_patch(DEPLOYMENTS.at(*PLACE), patch, intent=Intent.NEUTRAL)

    def go_round(self, version: str = EVIL) -> None:
        """Roll a version out past the guard, while no controller looks."""
        change = manifests.change(version, PORT, {})
        writer = {ChangeAnnotation.CHANGED_BY.value: "dana"}
        metadata = {**change["metadata"], "annotations": {**change["metadata"]["annotations"], **writer}}
        self.write({"metadata": metadata, "spec": {**change["spec"], "paused": False}})
        for _ in range(60):
            self.cluster.controllers.step()
            self.clock.run_for(0.5)
        self.breaches.clear()  # of ours; this was a stranger
        self.run_for(20.0)

    def said(self) -> tuple[str, str]:
        found = self.stored("CanaryPolicy")["status"]["conditions"]
        ready = next(each for each in found if each["type"] == "Ready")
        return ready["reason"], ready["message"]

    def review(self, user: User, digest: str = "") -> str:
        """Ask as the command line does; return the answer."""
        policy = self.stored("CanaryPolicy")
        passed = policy["status"].get("wentRound") or {"revision": {"templateHash": "sha256:" + "0" * 64}}
        ref = CANARYREQUESTS.at(PLACE[0], f"review-of-{user.name}-{time.monotonic_ns()}")
        subject = {
            "kind": "CanaryPolicy",
            "name": policy["metadata"]["name"],
            "uid": policy["metadata"]["uid"],
        }
        spec = {"verb": "approve", "subject": subject, "reason": "read what it does, and it may stay"}
        spec["digest"] = digest or passed["revision"]["templateHash"]
        client = Client(self.cluster.transport(user), clock=self.clock)
        client.create(CANARYREQUESTS, ref.manifest(spec=spec), intent=Intent.NEUTRAL)
        self.run_for(20.0)
        return self.stored("CanaryRequest", ref.name)["status"]["message"]

    def calls(self) -> list[Page]:
        """Return the calls for an overdue review that came by now, each once."""
        time.sleep(0.2)  # the courier is a thread
        return list({page.id: page for page in self.pager.pages if "review overdue" in page.title}.values())

    def hours_later(self, hours: float) -> None:
        self.clock.jump_wall(timedelta(hours=hours).total_seconds())
        self.controller.sweep()
        self.run_for(30.0)


def test_what_went_round_the_hold_is_reviewed_by_two_others_before_the_next_change():
    street = Called()
    street.go_round()
    reason, message = street.said()
    assert reason == Reason.BYPASS_USED
    assert message.startswith(f"{EVIL} serves, and nobody let it through; reviewed by 0 of 2 people")
    street.push()
    street.run_for(30.0)
    assert street.runs == [], "nothing begins before the review"
    assert street.review(DANA) == "dana used the bypass; two others review it"
    assert (
        street.review(SAM, "sha256:" + "1" * 64) == "nothing that went round the hold waits for this review"
    )
    assert street.review(SAM) == "reviewed by 1 of 2 people"
    assert street.review(SAM) == "sam reviewed it already"
    street.restart()
    street.run_for(20.0)
    assert street.runs == []
    assert street.review(PRIYA) == "reviewed by 2 of 2 people"
    assert street.run_until(lambda: bool(street.runs), 60.0), street.said()
    assert street.run.spec.baseline.version == EVIL
    assert street.stored("CanaryPolicy")["status"]["good"]["version"] == EVIL


def test_the_way_to_the_last_good_version_waits_for_no_review():
    street = Called()
    street.go_round()
    reapply_the_old_manifest(street)
    street.until(Phase.PROMOTED).tidied()
    everything_is_back(street, manifests.OLD)
    street.run_for(20.0)
    assert "wentRound" not in street.stored("CanaryPolicy")["status"]
    assert street.said()[0] == Reason.IDLE


def test_a_promoted_version_did_not_go_round():
    street = Called()
    street.push()
    street.until(Phase.PROMOTED).tidied()
    street.run_for(20.0)
    assert street.said()[0] == Reason.IDLE
    assert street.stored("CanaryPolicy")["status"]["good"]["version"] == manifests.NEW


def test_an_overdue_review_of_what_went_round_calls_people_once_a_day_until_it_is_done():
    street = Called()
    street.go_round()
    street.hours_later(47)
    assert street.calls() == []
    street.hours_later(2)
    street.hours_later(1)
    (call,) = street.calls()
    assert call.opening is Opening.DECISION_NEEDED
    assert call.title.startswith("DECISION NEEDED - review overdue ")
    assert call.title.endswith(": shop/checkout")
    assert EVIL in call.body
    street.hours_later(24)
    assert len(street.calls()) == 2
    assert [street.review(SAM), street.review(PRIYA)][1] == "reviewed by 2 of 2 people"
    street.hours_later(48)
    assert len(street.calls()) == 2


def test_an_overdue_review_of_a_bypass_calls_people():
    street = Called()
    ruled(street, exposure={**RESET["exposure"], "unapprovedMax": "0%"})
    street.push()
    assert street.run_until(lambda: bool(street.runs), 60)
    street.run_for(5)
    street.ask(Verb.BYPASS, DANA, reason=WHY)
    street.until(Phase.PROMOTED).tidied()
    street.hours_later(49)
    (call,) = street.calls()
    assert f"break-glass by dana in {street.run.name} is reviewed by 0 of 2 people" in call.body
    for who in (SAM, PRIYA):
        street.ask(Verb.APPROVE, who, digest=street.run.spec.digest)
        street.run_for(5.0)
    street.hours_later(48)
    assert len(street.calls()) == 1
