"""Each known failure pattern on a change, hit and missed; what a finding does by tier and policy; own patterns."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary.api.change import ChangeRecord
from canary.api.safety import SafetyPolicySpec, Strength
from canary.core.rules.effective import Effective
from canary.core.rules.patterns import CATALOGUE, findings
from canary.core.rules.templates import Earlier, Proposal, quantity, values_at

NEW_HASH, OLD_HASH = "sha256:" + "b" * 64, "sha256:" + "a" * 64
TEXTS = {
    "what": "reads the price list from the new table",
    "why": "the old table is written by nobody any more",
    "rollback_plan": "re-apply v1; the old table stays for a month",
}
CONTAINER: dict[str, Any] = {
    "name": "app",
    "image": "registry.example/shop@sha256:" + "c" * 64,
    "ports": [{"name": "metrics", "containerPort": 9090}],
    "env": [{"name": "TAX", "value": "7"}, {"name": "HTTP_RETRIES", "value": "2"}],
    "readinessProbe": {"httpGet": {"path": "/ready"}, "failureThreshold": 2},
    "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"memory": "1Gi"}},
    "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
    "command": ["serve"],
}
TEMPLATE: dict[str, Any] = {
    "metadata": {"labels": {"app": "shop", "tier": "web"}},
    "spec": {
        "containers": [CONTAINER],
        "volumes": [{"name": "config", "configMap": {"name": "shop-7f9c2d"}}],
        "terminationGracePeriodSeconds": 60,
        "affinity": {"podAntiAffinity": {}},
    },
}


def template(container: Mapping[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    """The serving template with fields of its container or its spec replaced; None takes a field away."""
    made = deepcopy(TEMPLATE)
    made["spec"]["containers"][0].update(container or {})
    made["spec"].update(spec)
    for holder in (made["spec"], made["spec"]["containers"][0]):
        for name in [name for name, value in holder.items() if value is None]:
            del holder[name]
    return made


def change(new: Mapping[str, Any] | None = None, **fields: Any) -> Proposal:
    base = Proposal(
        new=new or template(),
        old=template(),
        deployment={"replicas": 4, "strategy": {"rollingUpdate": {"maxUnavailable": "25%"}}},
        serving_pods=4,
        selectors=({"app": "shop"},),
        record=ChangeRecord(change_id="PR-2", **TEXTS),
        metrics_port="metrics",
        template_hash=NEW_HASH,
        serving_hash=OLD_HASH,
    )
    return replace(base, **fields)


def ruling(**patterns: Any) -> Effective:
    wire = {"approvals": {"count": 0, "senior": 0}, "patterns": patterns}
    return Effective(("reset",), SafetyPolicySpec.model_validate(wire))


def found(proposal: Proposal, tier: int = 1, ruled: Effective | None = None) -> dict[str, Strength]:
    return {each.id: each.strength for each in findings(proposal, tier, ruled or ruling())}


def record(**texts: str) -> dict[str, Any]:
    return {"record": ChangeRecord(change_id="PR-2", **{**TEXTS, **texts})}


def earlier(**fields: Any) -> dict[str, Any]:
    wire = {"template_hash": OLD_HASH, "change_id": "PR-1", "what": "w", "why": "y", "promoted": True}
    return {"earlier": (Earlier(**{**wire, **fields}),)}


MIGRATE = [{"name": "db-migrate", "image": CONTAINER["image"]}]
CLAIM = {"name": "data", "persistentVolumeClaim": {"claimName": "data-1a2b3"}}
CONFIG = TEMPLATE["spec"]["volumes"]
HITS: dict[str, list[Proposal]] = {
    "KP-101": [
        change(**record(**{name: text}))
        for name in TEXTS
        for text in ("", "too short", "TODO", "...........................", "see the ticket", "n/a")
    ],
    "KP-102": [change(**earlier(change_id="PR-2"))],
    "KP-103": [
        change(template({"image": "registry.example/shop:v2"})),
        change(template(initContainers=[{"name": "i", "image": "x"}])),
    ],
    "KP-104": [
        change(template({"image": "elsewhere.example/shop@sha256:1"})),
        change(template({"image": "registry.example/shop2@sha256:1"})),
    ],
    "KP-105": [
        change(template({"readinessProbe": None})),
        change(template({"readinessProbe": {"failureThreshold": 9}})),
        change(template({"readinessProbe": {"failureThreshold": 2, "timeoutSeconds": 5}})),
    ],
    "KP-106": [
        change(template({"resources": {"requests": {"cpu": "399m", "memory": "1Gi"}}})),
        change(template({"resources": None})),
        change(template({"resources": {**CONTAINER["resources"], "limits": {"memory": "800Mi"}}})),
    ],
    "KP-107": [change(deployment={"replicas": 3})],
    "KP-108": [
        change(deployment={"strategy": {"type": "Recreate"}}),
        change(deployment={"replicas": 4, "strategy": {"rollingUpdate": {"maxUnavailable": "50%"}}}),
        change(deployment={"replicas": 4, "strategy": {"rollingUpdate": {"maxUnavailable": 2}}}),
    ],
    "KP-109": [
        change({**template(), "metadata": {"labels": {"app": "shop2"}}}),
        change({**template(), "metadata": {}}),
    ],
    "KP-110": [
        change(template(volumes=[{"name": "config", "configMap": {"name": "shop-config"}}])),
        change(template({"envFrom": [{"secretRef": {"name": "payment"}}]})),
        change(
            template(
                {
                    "env": [
                        *CONTAINER["env"],
                        {"name": "K", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "k"}}},
                    ]
                }
            )
        ),
    ],
    "KP-111": [change(template(serviceAccountName="admin"))],
    "KP-112": [
        change(template(initContainers=MIGRATE)),
        change(template(initContainers=MIGRATE), **record(rollback_plan="irreversible, sorry about that")),
    ],
    "KP-113": [
        change(template({"securityContext": {"privileged": True}})),
        change(template(hostNetwork=True)),
        change(template(volumes=[*CONFIG, {"name": "h", "hostPath": {"path": "/"}}])),
        change(template({"securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}})),
        change(template(securityContext={"runAsUser": 0})),
    ],
    "KP-114": [
        change(template({"lifecycle": None})),
        change(template(terminationGracePeriodSeconds=30)),
        change(template(terminationGracePeriodSeconds=None)),
    ],
    "KP-115": [
        change(template({"env": [{"name": "TAX", "value": "19"}, CONTAINER["env"][1]]})),
        change(template({"env": []})),
    ],
    "KP-116": [change(template({"command": ["serve", "--fast"]})), change(template({"args": ["-x"]}))],
    "KP-117": [change(template({"env": [CONTAINER["env"][0], {"name": "HTTP_RETRIES", "value": "4"}]}))],
    "KP-118": [change(template(volumes=[])), change(template(volumes=[*CONFIG, CLAIM]))],
    "KP-119": [
        change(template(containers=[CONTAINER, {"name": "proxy", "image": CONTAINER["image"]}])),
        change(template(containers=[{**CONTAINER, "name": "other"}])),
    ],
    "KP-120": [
        change(template({"ports": []})),
        change(template({"ports": [{"name": "http", "containerPort": 80}]})),
    ],
    "KP-121": [change(template(affinity=None))],
    "KP-122": [change(taken_back=frozenset({NEW_HASH}))],
    "KP-123": [
        change(
            template(
                {"image": "registry.example/shop@sha256:1", "command": ["x"], "env": [], "resources": {}}
            )
        )
    ],
    "KP-124": [change(**earlier(what=TEXTS["what"], why=TEXTS["why"]))],
}
MISSES: dict[str, list[Proposal]] = {
    "KP-101": [change(required=())],
    "KP-102": [
        change(**earlier()),
        change(**earlier(change_id="PR-2", template_hash=NEW_HASH)),
        change(**earlier(change_id="PR-2", promoted=False)),
    ],
    "KP-104": [change(template({"image": "registry.example/shop@sha256:2"}))],
    "KP-105": [
        change(template({"readinessProbe": {"failureThreshold": 1}, "livenessProbe": {"periodSeconds": 60}}))
    ],
    "KP-106": [change(template({"resources": {"requests": {"cpu": "0.4", "memory": "2Gi"}}}))],
    "KP-107": [change(deployment={"replicas": 9})],
    "KP-108": [
        change(deployment={}),
        change(deployment={"replicas": 4, "strategy": {"rollingUpdate": {"maxUnavailable": 1}}}),
    ],
    "KP-109": [
        change({**template(), "metadata": {"labels": {"app": "shop", "tier": "api"}}}),
        change(selectors=()),
    ],
    "KP-110": [
        change(template({"envFrom": [{"configMapRef": {"name": "shop-5h2k9m"}}]})),
        change(
            template(
                volumes=[
                    *CONFIG,
                    {"name": "t", "projected": {"sources": [{"configMap": {"name": "kube-root-ca.crt"}}]}},
                ]
            )
        ),
    ],
    "KP-111": [change(template(serviceAccountName="default"))],
    "KP-112": [
        change(template(initContainers=MIGRATE), **record(rollback_plan="reversible: the column stays")),
        change(template(initContainers=MIGRATE), **record(rollback_plan="Forward-only; a fix is pushed")),
        change(template(initContainers=[{"name": "warm-up", "image": "x"}])),
    ],
    "KP-113": [
        change(template({"securityContext": {"privileged": False, "runAsUser": 1000, "runAsNonRoot": True}})),
        change(old=template(hostNetwork=True), new=template(hostNetwork=True)),
    ],
    "KP-114": [change(template(terminationGracePeriodSeconds=90))],
    "KP-115": [change(template({"env": [*CONTAINER["env"], {"name": "NEW", "value": "1"}]}))],
    "KP-117": [
        change(template({"env": [CONTAINER["env"][0], {"name": "HTTP_RETRIES", "value": "3"}]})),
        change(template({"env": [CONTAINER["env"][0], {"name": "HTTP_RETRIES", "value": "many"}]})),
    ],
    "KP-118": [
        change(
            template(
                volumes=[*CONFIG, {**CLAIM, "persistentVolumeClaim": {"claimName": "x", "readOnly": True}}]
            )
        )
    ],
    "KP-120": [
        change(template({"ports": [{"name": "metrics", "containerPort": 9999}]})),
        change(metrics_port=""),
        change(metrics_port="8080"),
    ],
    "KP-122": [change(taken_back=frozenset({OLD_HASH}))],
    "KP-123": [change(template({"image": "registry.example/shop@sha256:1", "command": ["x"], "env": []}))],
    "KP-124": [
        change(**earlier()),
        change(**earlier(template_hash="sha256:" + "d" * 64, what=TEXTS["what"], why=TEXTS["why"])),
    ],
}
SHOWN = [(name, proposal) for name, proposals in HITS.items() for proposal in proposals]
QUIET = [(name, proposal) for name, proposals in MISSES.items() for proposal in proposals]


def test_a_careful_change_shows_nothing() -> None:
    assert found(change()) == {}
    assert found(change(template({"image": "registry.example/shop@sha256:" + "9" * 64}))) == {}


@pytest.mark.parametrize(("name", "proposal"), SHOWN, ids=[name for name, _ in SHOWN])
def test_a_pattern_is_found_where_the_change_shows_it(name: str, proposal: Proposal) -> None:
    pattern = next(each for each in CATALOGUE if each.id == name)
    assert found(proposal)[name] is pattern.tier_1
    assert found(proposal, tier=2)[name] is pattern.others
    said = next(each.message for each in findings(proposal, 1, ruling()) if each.id == name)
    assert said.endswith(pattern.remedy)
    assert "could not check" not in said


@pytest.mark.parametrize(("name", "proposal"), QUIET, ids=[name for name, _ in QUIET])
def test_a_pattern_is_not_found_where_the_change_does_not_show_it(name: str, proposal: Proposal) -> None:
    assert name not in found(proposal)


def test_every_pattern_of_the_catalogue_has_its_hit() -> None:
    assert [each.id for each in CATALOGUE] == list(HITS)
    assert len({each.finds for each in CATALOGUE}) == len(CATALOGUE)


def test_a_policy_makes_a_pattern_stricter_and_never_milder() -> None:
    note = change(template({"image": "registry.example/shop:v2"}))
    assert found(note, 2, ruling())["KP-103"] is Strength.NOTE
    assert found(note, 2, ruling(approve=["KP-103"]))["KP-103"] is Strength.APPROVE
    assert found(note, 2, ruling(refuse=["KP-103"]))["KP-103"] is Strength.REFUSE
    assert found(note, 1, ruling(approve=["KP-103"]))["KP-103"] is Strength.REFUSE


def test_without_a_safety_policy_only_what_breaks_every_shop_refuses_and_nothing_waits() -> None:
    for name, proposal in SHOWN:
        strength = {each.id: each.strength for each in findings(proposal, 1, None)}[name]
        pattern = next(each for each in CATALOGUE if each.id == name)
        assert strength is (Strength.REFUSE if pattern.others is Strength.REFUSE else Strength.NOTE)


def test_a_check_that_breaks_is_a_finding_that_holds() -> None:
    odd = change(template({"env": {"not": "a list"}, "resources": {"requests": ["odd"]}}))
    said = {each.id: each for each in findings(odd, 2, ruling())}
    assert said["KP-106"].strength is Strength.APPROVE
    assert said["KP-106"].message.startswith("could not check whether resources were cut (AttributeError")


ODD = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 99) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*TEMPLATE["spec"], *CONTAINER, "name"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(ODD, ODD)
def test_no_template_however_odd_ends_in_an_error(spec: Any, deployment: Any) -> None:
    strange = deployment if isinstance(deployment, dict) else {}
    for each in findings(change({"spec": spec, "metadata": spec}, deployment=strange), 1, ruling()):
        assert len(each.message) <= 1024


# -- patterns of one's own -------------------------------------------------------------------------------------------


def own(when: str, path: str, value: str | None = None) -> Effective:
    wire = {"id": "SHOP-1", "path": path, "when": when, "strength": "refuse", "says": "ask the tax team"}
    return ruling(own=[wire | ({"value": value} if value is not None else {})])


@pytest.mark.parametrize(
    ("when", "path", "value", "container", "hit"),
    [
        (
            "changed",
            "containers[*].env[TAX]",
            None,
            {"env": [{"name": "TAX", "value": "19"}]},
            "containers[app].env[TAX]",
        ),
        ("changed", "containers[*].env[TAX]", None, {"env": []}, "containers[app].env[TAX]"),
        ("changed", "containers[*].env[TAX]", None, {}, ""),
        ("changed", "containers[other].env[TAX]", None, {"env": []}, ""),
        (
            "removed",
            "containers[app].readinessProbe",
            None,
            {"readinessProbe": None},
            "containers[app].readinessProbe",
        ),
        ("removed", "containers[app].readinessProbe", None, {"readinessProbe": {}}, ""),
        (
            "lowered",
            "containers[0].resources.requests.cpu",
            None,
            {"resources": {"requests": {"cpu": "0.4"}}},
            "containers[app].resources.requests.cpu",
        ),
        (
            "lowered",
            "containers[0].resources.requests.cpu",
            None,
            {"resources": {"requests": {"cpu": "1"}}},
            "",
        ),
        (
            "lowered",
            "containers[*].env[HTTP_RETRIES]",
            None,
            {"env": [{"name": "HTTP_RETRIES", "value": "1"}]},
            "containers[app].env[HTTP_RETRIES]",
        ),
        (
            "equals",
            "containers[*].env[TAX]",
            "0",
            {"env": [{"name": "TAX", "value": "0"}]},
            "containers[app].env[TAX]",
        ),
        ("equals", "containers[*].tty", "true", {"tty": True}, "containers[app].tty"),
        ("equals", "containers[*].env[TAX]", "0", {}, ""),
        ("equals", "nowhere.at[all]", "0", {}, ""),
    ],
)
def test_a_pattern_of_ones_own_is_data(
    when: str, path: str, value: str | None, container: dict[str, Any], hit: str
) -> None:
    said = {each.id: each for each in findings(change(template(container)), 1, own(when, path, value))}
    assert ("SHOP-1" in said) is bool(hit)
    if hit:
        assert said["SHOP-1"].strength is Strength.REFUSE
        assert said["SHOP-1"].message == f"ask the tax team ({hit})"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("500m", 0.5),
        ("1", 1.0),
        ("2Gi", 2 * 1024**3),
        ("1.5k", 1500.0),
        (3, 3.0),
        ("1e3", 1000.0),
        ("lots", None),
        (None, None),
        (True, None),
        ("5ms", None),
    ],
)
def test_a_quantity_is_read_as_kubernetes_does(text: object, value: float | None) -> None:
    assert quantity(text) == value


def test_a_path_names_every_place_that_it_finds() -> None:
    spec = {"containers": [{"name": "a", "ports": [1, 2]}, {"ports": [3]}]}
    assert values_at(spec, "containers[*].ports[0]") == {
        "containers[a].ports[0]": 1,
        "containers[1].ports[0]": 3,
    }
    assert values_at(spec, "containers[b].ports") == {}
