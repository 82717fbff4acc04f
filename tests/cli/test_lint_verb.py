"""`canary lint`: what would be refused is said before anything runs, by the functions that would refuse it."""

import copy
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from clone import Canary

from canary.api.change import ChangeAnnotation
from canary.api.reasons import Origin
from canary.cli.exits import Exit
from canary.cli.linting import NOTED, REFUSED, WAITS, Complaint, lint
from canary.kube.resources import SAFETYPOLICIES
from canary.lab import manifests

pytest_plugins = ["clone_fixtures"]
NOW = datetime(2026, 3, 5, tzinfo=UTC)
GROUPS = {"approverGroups": ["devs"], "seniorGroups": ["seniors"]}
Json = dict[str, Any]


def shop(edit: Callable[[Json], Any] = lambda each: None) -> list[Json]:
    """Return policy, Deployment and Service of a shop that nothing is to be said of; `edit` alters them by kind."""
    deployment = manifests.deployment(4, 8080)
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    container["image"] = f"registry.example/shop@sha256:{'a' * 64}"
    deployment["metadata"]["annotations"] = manifests.record(Origin.AI)
    found = {"policy": manifests.policy(), "deployment": deployment, "service": manifests.service()}
    found = copy.deepcopy(found)
    edit(found)
    return list(found.values())


def safety(name: str = "tier-1", **fields: Any) -> Json:
    return SAFETYPOLICIES.at("", name).manifest(spec={"approvals": GROUPS, **fields})


def said(manifests: list[Any], serving: list[Any] | None = None) -> list[Complaint]:
    return lint(manifests, serving or [], NOW)


def pods(found: Json) -> Json:
    return found["deployment"]["spec"]["template"]["spec"]


def test_a_shop_that_is_in_order_gets_no_complaint() -> None:
    assert said(shop()) == []
    assert said([*shop(), safety()]) == []


REFUSALS: dict[str, tuple[Callable[[Json], Any], str]] = {
    "a field that is not known": (
        lambda found: found["policy"]["spec"].update(teir=1),
        "spec.teir: is not a known field; did you mean 'tier'?",
    ),
    "steps that do not rise": (
        lambda found: found["policy"]["spec"].update(steps=[{"weight": "5%"}, {"weight": "1%"}]),
        "steps must rise",
    ),
    "slices of pods in tier 1": (
        lambda found: found["policy"]["spec"].update(route={"kind": "EndpointSlice"}),
        "spec.route.kind EndpointSlice is not for tier 1",
    ),
    "a manifest that opens the lock": (
        lambda found: found["deployment"]["spec"].update(paused=False),
        "would release held changes",
    ),
    "a strategy that kills first": (
        lambda found: found["deployment"]["spec"].update(strategy={"type": "Recreate"}),
        "use RollingUpdate",
    ),
    "no history": (
        lambda found: found["deployment"]["spec"].update(revisionHistoryLimit=0),
        "revisionHistoryLimit",
    ),
    "ports of the host": (lambda found: pods(found).update(hostNetwork=True), "hostNetwork"),
    "a Service that selects other pods": (
        lambda found: found["service"]["spec"].update(selector={"app": "other"}),
        "no Service selects",
    ),
    "a Deployment without a template": (lambda found: found["deployment"].update(spec={}), "names no image"),
    "an object without a name": (lambda found: found["deployment"].pop("metadata"), "cannot be checked"),
    "odd containers": (lambda found: pods(found).update(containers=[4]), "names no image"),
    "odd ports": (lambda found: pods(found)["containers"][0].update(ports=[4]), "cannot be checked"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_each_thing_that_would_be_refused_is_said_with_its_place(case: str) -> None:
    edit, text = REFUSALS[case]
    refused = [each.says for each in said(shop(edit)) if each.outcome == REFUSED]
    assert any(text in says for says in refused), refused


def test_a_record_that_is_missing_is_refused_in_tier_1_and_noted_elsewhere() -> None:
    def without_record(found: Json) -> None:
        del found["deployment"]["metadata"]["annotations"][ChangeAnnotation.WHY.value]

    tiers = {"appliesTo": {"tiers": [1, 2]}, "exposure": {"maxStepRatio": 1000, "firstSliceMax": "100%"}}
    for tier, outcome in ((1, REFUSED), (2, NOTED)):
        manifests = [*shop(without_record), safety(**tiers)]
        manifests[0]["spec"]["tier"] = tier
        (complaint,) = said(manifests)
        assert (complaint.outcome, complaint.says[:6]) == (outcome, "KP-101")
        assert "why" in complaint.says


def test_a_change_is_compared_with_what_serves() -> None:
    def other_program(found: Json) -> None:
        pods(found)["containers"][0]["args"] = ["--fast"]

    rules = safety(exposure={"maxStepRatio": 1000, "firstSliceMax": "100%"})
    assert said([*shop(other_program), rules]) == []
    (complaint,) = said([*shop(other_program), rules], shop())
    assert (complaint.outcome, complaint.says[:6]) == (WAITS, "KP-116")


def test_an_unknown_origin_is_refused_where_the_safety_policy_blocks_it() -> None:
    def nobody(found: Json) -> None:
        for key in (ChangeAnnotation.ORIGIN, ChangeAnnotation.AGENTS):
            del found["deployment"]["metadata"]["annotations"][key.value]

    rules = safety(record={"unknown": "block"}, exposure={"maxStepRatio": 1000, "firstSliceMax": "100%"})
    assert said([*shop(), rules]) == []
    (complaint,) = said([*shop(nobody), rules])
    assert complaint.outcome == REFUSED
    assert "canary flag" in complaint.says


def test_a_plan_that_the_safety_policy_stretches_is_noted_and_one_that_is_too_long_refused() -> None:
    leap = shop(lambda found: found["policy"]["spec"].update(steps=[{"weight": "100%"}]))
    (noted,) = said([*leap, safety(exposure={"firstSliceMax": "1%", "maxStepRatio": 10})])
    assert (noted.outcome, "3 steps, not 1" in noted.says) == (NOTED, True)
    leap[0]["spec"]["steps"] = [{"weight": "99%"}, {"weight": "100%"}]
    (refused,) = said([*leap, safety(exposure={"firstSliceMax": "0.0001%", "maxStepRatio": 2})])
    assert (refused.outcome, "steps" in refused.says) == (REFUSED, True)


def test_a_safety_policy_is_read_strictly_and_what_follows_it_is_looked_for() -> None:
    ending = {"expiresAt": "2026-06-08T00:00:00Z", "onExpiry": {"fallback": "tier-2"}}
    (noted,) = said([safety(**ending)])
    assert (noted.object, noted.outcome) == ("SafetyPolicy tier-1", NOTED)
    assert said([safety(**ending), safety("tier-2")]) == []
    (refused,) = said(
        [safety(freezes=[{"name": "peak", "from": "2026-03-27T00:00", "to": "2026-03-27T00:00"}])]
    )
    assert "ends at" in refused.says
    (refused,) = said([safety(trustedKeys=[{"id": "ci-main", "publicKey": "ed25519:KEY="}])])
    assert "ci-main: ed25519:KEY=... is no public key" in refused.says


def test_what_is_no_object_and_kinds_of_others_do_no_harm() -> None:
    assert [each.outcome for each in said(["text", 4, {"kind": "ConfigMap"}, {"kind": ["x"]}])] == [
        REFUSED,
        REFUSED,
    ]


def test_the_command_reads_files_and_lists_and_ends_with_1_where_something_would_be_refused(
    canary: Canary, tmp_path: Path
) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(yaml.safe_dump({"kind": "List", "items": shop()}))
    assert canary("lint", str(good)) == (Exit.DONE, "", "3 objects: 0 refusals, 0 wait for a senior\n")
    bad.write_text(yaml.safe_dump_all(shop(REFUSALS["no history"][0])))
    code, out, _ = canary("lint", str(bad), "--against", str(good))
    assert code == Exit.FAILED
    assert out.startswith("refused  Deployment shop/checkout: revisionHistoryLimit is 0")
    code, out, _ = canary("lint", str(bad), "-o", "json")
    document = json.loads(out)
    assert document["schema"] == "canary-controller.io/lint/v1"
    assert {each["outcome"] for each in document["complaints"]} == {"refused"}


@pytest.mark.parametrize(
    ("text", "why"), [("a: [", "is not YAML"), ("\x00", "is not YAML"), (None, "cannot read")]
)
def test_a_file_that_cannot_be_read_is_an_error(
    canary: Canary, tmp_path: Path, text: str | None, why: str
) -> None:
    path = tmp_path / "x.yaml"
    if text is not None:
        path.write_text(text)
    code, _, err = canary("lint", str(path))
    assert code == Exit.USAGE
    assert why in err
