"""Four shops that live through attacks which the guard lets pass: what became of them, as notes.

In one a person breaks the glass, in one approvals are begged, forged and borrowed, in one a tag is pushed again, and
one is pestered. Each story opens its own shop under the guard, plays to its end and closes the shop.
"""

import json
import threading
import time
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster_bed import Bed
from guarded_shop import shop_under_guard
from shop_on_bed import COLLAPSE, Shop

from canary.api.marks import Mark, side_name, way_back_name
from canary.api.reasons import GROUP, PPM, TARGET_LOST, Phase
from canary.audit.chain import decoded
from canary.audit.store import FileStore
from canary.errors import CanaryError
from canary.kube.client import Intent
from canary.kube.resources import (
    CANARYPOLICIES,
    CANARYREQUESTS,
    CANARYRUNS,
    HTTPROUTES,
    REPLICASETS,
    SAFETYPOLICIES,
    Ref,
)
from canary.kube.transport import JSON_PATCH, MERGE_PATCH
from canary.lab import manifests
from canary.lab.contracts.receiver import Receiver
from canary.lab.shop.child import Message

Object = dict[str, Any]
NAME = manifests.NAME
RATE = 30.0  # orders a second
SLICE_PPM = 50_000
ANALYSIS = {**manifests.policy()["spec"]["analysis"], "minWatch": "0s"}
SCRAPE = {"scrape": {"port": "metrics", "path": "/metrics", "every": "1s"}}
WAITING = {
    "steps": [{"weight": "5%"}, {"weight": "100%", "approval": True}],
    "drain": "2s",
    "analysis": ANALYSIS,
    "source": SCRAPE,
}
REASON = "INC-481: payments are down, and the whole shop needs the fix"
READ = "read the plan, and the change is small"
SWEPT_SECONDS, END_SECONDS, SERVED_SECONDS = 100.0, 240.0, 150.0
NEWER = "v2.32.0"


def weight(place: int, value: int) -> Object:
    return {"op": "replace", "path": f"/spec/rules/0/backendRefs/{place}/weight", "value": value}


def weights(shop: Shop) -> list[int]:
    return [ppm for _, ppm in shop.chronicle.weights()]


def pages(shop: Shop) -> list[tuple[str, str]]:
    """Return the opening and the reason of every page."""
    told = [json.loads(page.body)["data"] for page in list(shop.pages.received)]
    return [(page["opening"], page["reason"]) for page in told]


def do(shop: Shop, user: str, *words: str) -> None:
    done = shop.bed.kubectl(user, *words, namespace=shop.namespace)
    assert done.returncode == 0, done.stderr


# -- a person breaks the glass ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class BrokenGlass:
    """What the controller did about writes that a person had the right to force through."""

    raised: list[int]
    """The weights of the side, up to the answer to a raise by hand."""
    paused: Object
    """The run after it."""
    ended: Object = field(default_factory=dict[str, Any])
    """The same run after the Deployment was deleted and made anew, and the last good version served."""
    recreated: Object = field(default_factory=dict[str, Any])
    """The Deployment that was made, once it is held."""
    made: list[Object] = field(default_factory=list[dict[str, Any]])
    """The ReplicaSets that there are then."""
    told: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    recorded: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """Kind and reason of what is on record."""


LOST = {("ACTION NEEDED", reason) for reason in TARGET_LOST}  # whether it was seen between the two or not


def break_the_glass(bed: Bed) -> BrokenGlass:
    """Let bob raise the weight by hand, then delete the Deployment and make it anew."""
    path = Path(bed.folder) / "glass.jsonl"
    with shop_under_guard(bed, "glass", RATE, "--audit", f"file:{path}") as shop:
        shop.protect(**WAITING)
        shop.push()
        shop.reach_slice()
        note = {"op": "add", "path": f"/metadata/annotations/{GROUP}~1break-glass-reason", "value": REASON}
        raised = [weight(1, 1_000_000), note]
        status, said = bed.ask("bob", "PATCH", HTTPROUTES.at(shop.namespace, NAME).path(), raised, JSON_PATCH)
        assert status == 200, said
        paused = shop.reach(Phase.PAUSED)
        shop.until(lambda: shop.weight_ppm() == 0, "the raise is taken back")
        notes = BrokenGlass(weights(shop), paused)
        do(shop, "bob", "annotate", f"deployment/{NAME}", f"{Mark.BREAK_GLASS}={REASON}")
        do(shop, "bob", "delete", f"deployment/{NAME}")
        shop.apply(shop.manifest(NEWER))
        last_good = way_back_name(NAME)
        shop.until(lambda: _share(shop, last_good) == PPM, "the last good version serves", SERVED_SECONDS)
        notes.ended = bed.admin.get(CANARYRUNS.at(shop.namespace, paused["metadata"]["name"])) or {}
        notes.recreated = shop.deployment()
        shop.until(lambda: LOST & set(pages(shop)), "people are called", SWEPT_SECONDS)
        notes.made = bed.admin.list(REPLICASETS, shop.namespace)
        notes.recorded, notes.told = _recorded(path), pages(shop)
    return notes


def _share(shop: Shop, service: str) -> int:
    """Return the weight of a Service in the shop's route."""
    route = shop.bed.admin.get(HTTPROUTES.at(shop.namespace, NAME)) or {}
    return {ref["name"]: ref.get("weight", 1) for ref in route["spec"]["rules"][0]["backendRefs"]}.get(
        service, 0
    )


def _recorded(path: Path) -> list[tuple[str, str]]:
    records = [decoded(line) or {} for line in FileStore(path).lines(0)]
    return [(str(each.get("kind")), str(each.get("reason"))) for each in records]


# -- approvals are begged, forged and borrowed -----------------------------------------------------------------------

PEOPLE = """
people:
  - {name: dana, usernames: [dana, alice]}
  - {name: bob, usernames: [bob]}
  - {name: carol, usernames: [carol]}
"""
RULED: Object = {
    "appliesTo": {"tiers": [3]},
    "approvals": {"count": 2, "senior": 1, "approverGroups": ["devs"], "seniorGroups": ["seniors"]},
    "exposure": {"unapprovedMax": "0%", "firstSliceMax": "5%"},
}
SAFETY = SAFETYPOLICIES.at("", "reviewed")


@dataclass(slots=True)
class Reviewed:
    """What was answered to whom, and the slices that came of it."""

    answers: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """Requester and answer, in the order of asking, up to the last approval that was missing."""
    by_the_agent: str = ""
    unapproved: list[int] = field(default_factory=list[int])
    """The weights before that last approval."""
    forged: Object = field(default_factory=dict[str, Any])
    tampered: dict[str, int] = field(default_factory=dict[str, int])
    """What was done to a stored approval, and how the API server answered."""
    untouched: bool = False
    weaker: Object = field(default_factory=dict[str, Any])
    """What the policy says of its loosened text, which waits."""
    meanwhile: list[tuple[str, int, str]] = field(default_factory=list[tuple[str, int, str]])
    """The run and its slice after each word on that text, the edit itself the first, and who was answered what."""
    words: dict[str, str] = field(default_factory=dict[str, str])
    after_policy: Object = field(default_factory=dict[str, Any])
    """The run after its policy was loosened by enough people."""
    after_push: Object = field(default_factory=dict[str, Any])
    """The run after its change was changed."""
    borrowed: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """Answers where presence is asked for."""
    by_a_borrower: int = 0
    weights: list[int] = field(default_factory=list[int])


def review(bed: Bed) -> Reviewed:
    """Let everybody approve who may not count, forge what does, and change what was approved."""
    (Path(bed.folder) / "people.yaml").write_text(PEOPLE)
    bed.admin.create(SAFETYPOLICIES, SAFETY.manifest(spec=RULED), intent=Intent.NEUTRAL)
    notes = Reviewed()
    with shop_under_guard(bed, "reviewed", RATE, "--people", str(Path(bed.folder) / "people.yaml")) as shop:
        shop.protect(
            **{**WAITING, "tier": 3, "steps": [{"weight": "5%"}, {"weight": "50%"}, {"weight": "100%"}]}
        )
        shop.push()
        shop.until(lambda: bool(shop.run()), "the change waits")
        notes.by_the_agent = shop.canary("agent", *APPROVE).stderr
        for user in ("alice", "admin", "bob", "bob"):
            notes.answers.append((user, approve(shop, user)))
        notes.unapproved = weights(shop)
        _tamper(shop, notes)
        notes.answers.append(("carol", approve(shop, "carol")))
        shop.until(lambda: shop.weight_ppm() == SLICE_PPM, "the approved slice", 120.0)
        first = shop.run()["metadata"]["name"]
        _loosen(shop, notes)
        notes.after_policy = _next_run(shop, first)
        for user in ("bob", "carol"):
            approve(shop, user)
        shop.until(lambda: shop.weight_ppm() > 0, "the approved slice", 120.0)
        second = shop.run()["metadata"]["name"]
        shop.apply(shop.manifest(NEWER))
        notes.after_push = _next_run(shop, second)
        _borrow(shop, notes)
        notes.weights = weights(shop)
    return notes


APPROVE = ("approve", NAME, "--reason", READ, "--yes")


def approve(shop: Shop, user: str) -> str:
    """Approve the newest run as somebody; return what canary answers."""
    done = shop.canary(user, *APPROVE, "-o", "json")
    assert "CAN-" in done.stderr or done.returncode == 0, done.stderr
    return _answer(shop, shop.run()["metadata"]["name"], user)


def _answer(shop: Shop, run: str, user: str) -> str:
    """Wait for the answer to the newest request of somebody about a run."""

    def newest() -> Object:
        asked = [
            each
            for each in shop.bed.admin.list(CANARYREQUESTS, shop.namespace)
            if each["spec"]["requester"] == user and each["spec"]["subject"]["name"] == run
        ]
        return max(asked, key=lambda each: each["metadata"]["creationTimestamp"], default={})

    shop.until(lambda: bool((newest().get("status") or {}).get("outcome")), f"{user} is answered")
    return newest()["status"]["message"]


def _tamper(shop: Shop, notes: Reviewed) -> None:
    """Forge an approval in bob's name, and edit and delete his own."""
    bed, stored = shop.bed, shop.bed.admin.list(CANARYREQUESTS, shop.namespace)
    bobs = next(each for each in stored if each["spec"]["requester"] == "bob")
    spec = {**bobs["spec"], "requester": "carol", "groups": ["devs", "seniors"]}
    body = {**bobs, "metadata": {**bobs["metadata"], "name": "forged"}, "spec": spec}
    for name in ("uid", "resourceVersion", "managedFields", "creationTimestamp", "generation"):
        body["metadata"].pop(name, None)
    body.pop("status", None)
    status, answer = bed.ask("alice", "POST", CANARYREQUESTS.collection(shop.namespace), body)
    notes.forged = answer if status == 201 else {"spec": {}, "said": answer}
    path = CANARYREQUESTS.at(shop.namespace, bobs["metadata"]["name"])
    for user in ("alice", "admin"):
        edit = {"spec": {"verb": "reject"}}
        notes.tampered[f"edited by {user}"] = bed.ask(user, "PATCH", path.path(), edit, MERGE_PATCH)[0]
        notes.tampered[f"deleted by {user}"] = bed.ask(user, "DELETE", path.path())[0]
        answered = {"status": {"outcome": "Done"}}
        notes.tampered[f"answered by {user}"] = bed.ask(
            user, "PATCH", path.path("status"), answered, MERGE_PATCH
        )[0]
    notes.untouched = (bed.admin.get(path) or {}).get("spec") == bobs["spec"]


def _loosen(shop: Shop, notes: Reviewed) -> None:
    """Loosen the policy as alice, approve that as her, as an agent and as the two whose word counts."""
    bed, policy = shop.bed, CANARYPOLICIES.at(shop.namespace, NAME)
    loosened = {"spec": {"steps": [{"weight": "100%"}]}}
    bed.client("alice").merge_patch(policy, loosened, intent=Intent.NEUTRAL)

    def waits() -> Object:
        return (bed.admin.get(policy) or {})["status"].get("weaker") or {}

    shop.until(lambda: bool(waits()), "the loosened text waits")
    notes.weaker = waits()
    for user in ("alice", "agent", "bob", "carol"):
        time.sleep(3.0)  # several looks
        notes.meanwhile.append((shop.run()["metadata"]["name"], shop.weight_ppm(), user))
        done = shop.canary(user, "approve", f"policy/{NAME}", "--reason", READ, "--yes")
        notes.words[user] = f"{done.returncode} {done.stdout}{done.stderr}"


def _next_run(shop: Shop, before: str) -> Object:
    """Wait until another run waits for its approvals; return it."""
    shop.until(lambda: shop.run()["metadata"]["name"] != before, "another run begins")
    shop.until(lambda: shop.weight_ppm() == 0, "the slice is taken away")
    shop.until(
        lambda: (shop.run().get("status") or {}).get("reason") == "ApprovalsMissing", "it waits for approvals"
    )
    return shop.run()


def _borrow(shop: Shop, notes: Reviewed) -> None:
    """Ask for presence, then approve as bob without a key, and as carol by an administrator who impersonates her."""
    bed, before = shop.bed, shop.run()["metadata"]["name"]
    asked = {"spec": {"approvals": {"presence": "Required"}}}
    bed.client("bob").merge_patch(SAFETY, asked, intent=Intent.NEUTRAL)
    run = _next_run(shop, before)
    notes.borrowed.append(("bob", approve(shop, "bob")))
    manifest = next(
        e for e in bed.admin.list(CANARYREQUESTS, shop.namespace) if e["spec"]["requester"] == "bob"
    )
    metadata = run["metadata"]
    owner = {
        "apiVersion": run["apiVersion"],
        "kind": run["kind"],
        "name": metadata["name"],
        "uid": metadata["uid"],
    }
    body = {
        "apiVersion": manifest["apiVersion"],
        "kind": manifest["kind"],
        "metadata": {"name": "borrowed", "ownerReferences": [owner]},
        "spec": {
            **manifest["spec"],
            "subject": {**manifest["spec"]["subject"], "name": metadata["name"], "uid": metadata["uid"]},
            "digest": run["spec"]["digest"],
        },
    }
    for user, by in (("agent", "by_a_borrower"), ("admin", "")):
        done = bed.kubectl(
            user,
            "create",
            "-f",
            "-",
            "--as=carol",
            "--as-group=devs",
            namespace=shop.namespace,
            given=json.dumps(body),
        )
        if by:
            notes.by_a_borrower = done.returncode
        else:
            assert done.returncode == 0, done.stderr
    notes.borrowed.append(("carol", _answer(shop, metadata["name"], "carol")))


# -- a tag is pushed again -------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Moved:
    """The run whose tag moved, and what followed."""

    first: Object
    then: Object
    weights: list[int]


def push_the_tag_again(bed: Bed) -> Moved:
    """Put other bytes under the tested tag, and have a pod of the side start anew with them."""
    with shop_under_guard(bed, "moved", RATE) as shop:
        shop.protect(**WAITING, tier=2)
        shop.push()
        shop.reach_slice()
        first = shop.run()["metadata"]["name"]
        bed.node.push_again(f"registry.example/shop:{manifests.NEW}")
        side = shop.pods(**{Mark.SIDE.value: side_name(NAME)})[0]["metadata"]["name"]
        do(shop, "alice", "delete", "pod", side, "--wait=false")
        shop.until(lambda: shop.run()["metadata"]["name"] != first, "another run begins")
        shop.until(lambda: shop.weight_ppm() == 0 and "status" in shop.run(), "the slice is taken away")
        ended = bed.admin.get(CANARYRUNS.at(shop.namespace, first)) or {}
        return Moved(ended, shop.run(), weights(shop))


# -- a shop is pestered ----------------------------------------------------------------------------------------------

POLICIES, REQUESTS = 40, 300
LATER = {**COLLAPSE, "SHOP_BUG_AFTER": "25"}
ABSENT = "nothing-like-it"


@dataclass(slots=True)
class Pestered:
    """A bad change under a flood, beside objects that nobody can read."""

    run: Object
    weights: list[int]
    sales: Message
    flood: int
    """How many objects were stored."""
    oversized: dict[str, int]
    """What was too large, and how the API server answered."""
    poisoned: Object
    """The policy that nobody can read."""
    deputy: Object
    """The policy that names a foreign address."""
    asked_of_deputy: int
    """Requests that arrived there."""


def pester(bed: Bed) -> Pestered:
    """Send the controller elsewhere, give it poison, flood it, and let the change lose orders meanwhile."""
    with closing(Receiver()) as elsewhere, shop_under_guard(bed, "pestered", RATE) as shop:
        shop.protect(**{**WAITING, "source": {"prometheus": {"address": elsewhere.url, "every": "1s"}}})
        policy = CANARYPOLICIES.at(shop.namespace, NAME)
        shop.until(
            lambda: "allowed Prometheus" in str((bed.admin.get(policy) or {}).get("status")), "it is refused"
        )
        deputy, asked = bed.admin.get(policy) or {}, len(elsewhere.received)
        bed.client("alice").merge_patch(
            policy, {"spec": {"source": {"prometheus": None, **SCRAPE}}}, intent=Intent.NEUTRAL
        )
        shop.push(LATER)
        shop.reach_slice()
        name = shop.run()["metadata"]["name"]
        poisoned = _poison(shop)
        oversized = _oversized(shop)
        flooding = Flood(shop)
        ref = CANARYRUNS.at(shop.namespace, name)
        shop.until(
            lambda: _phase(bed, ref) == Phase.ROLLED_BACK, "the bad change is rolled back", END_SECONDS
        )
        stored, run = flooding.end(), bed.admin.get(ref) or {}
        shop.until(
            lambda: "PolicyInvalid" in str((bed.admin.get(poisoned) or {}).get("status")), "poison is named"
        )
        told = bed.admin.get(poisoned) or {}
        sales = shop.close_shop()
        return Pestered(run, weights(shop), sales, stored, oversized, told, deputy, asked)


def _phase(bed: Bed, run: Ref) -> str:
    return ((bed.admin.get(run) or {}).get("status") or {}).get("phase", "")


def _poison(shop: Shop) -> Any:
    """Store a policy and a run that pass the schema, and that nobody can use."""
    broken = {**ANALYSIS, "errors": {"counter": "http_requests_total", "where": {"code": "5(("}}}
    policy = manifests.policy({"analysis": broken})
    policy["metadata"] = {"name": "a-poison", "namespace": shop.namespace}
    shop.bed.client("alice").create(CANARYPOLICIES, policy, intent=Intent.NEUTRAL)
    run = shop.run()
    body = CANARYRUNS.at(shop.namespace, "a-poison").manifest(spec={**run["spec"], "policy": policy["spec"]})
    status, said = shop.bed.ask("pod", "POST", CANARYRUNS.collection(shop.namespace), body)
    assert status == 201, said
    return CANARYPOLICIES.at(shop.namespace, "a-poison")


def _request(shop: Shop, name: str, reason: str) -> Object:
    spec = {
        "verb": "abort",
        "subject": {"kind": "CanaryRun", "name": ABSENT},
        "requester": "alice",
        "reason": reason,
    }
    return CANARYREQUESTS.at(shop.namespace, name).manifest(spec=spec)


def _oversized(shop: Shop) -> dict[str, int]:
    path, big = CANARYREQUESTS.collection(shop.namespace), "x" * 70_000
    policy = manifests.policy({"target": {"name": big}})
    policy["metadata"] = {"name": "big", "namespace": shop.namespace}
    return {
        "a reason": shop.bed.ask("alice", "POST", path, _request(shop, "big", big))[0],
        "a policy": shop.bed.ask("alice", "POST", CANARYPOLICIES.collection(shop.namespace), policy)[0],
    }


class Flood:
    """Policies of no workload and requests about no run, as fast as alice can make them, until `end`."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._stored = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._pour, daemon=True)
        self._thread.start()

    def end(self) -> int:
        self._over.set()
        self._thread.join(60.0)
        return self._stored

    def _pour(self) -> None:
        shop, alice = self._shop, self._shop.bed.client("alice")
        for number in range(POLICIES + REQUESTS):
            if self._over.is_set():
                return
            policy = manifests.policy({"target": {"name": f"{ABSENT}-{number}"}})
            policy["metadata"] = {"name": f"flood-{number}", "namespace": shop.namespace}
            resource, body = CANARYPOLICIES, policy
            if number >= POLICIES:
                resource, body = CANARYREQUESTS, _request(shop, f"flood-{number}", "because I can")
            with suppress(CanaryError):
                alice.create(resource, body, intent=Intent.NEUTRAL)
                self._stored += 1
