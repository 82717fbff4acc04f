"""The side's objects: a Deployment, a Service and a disruption budget that stand beside the user's own. Pure.

In go the user's Deployment and Service as stored and a template to run; out come three manifests. A side pod must
match no selector that serves or counts stable pods, so the smallest set of its labels gets another value, and whatever
in the template means "pods like me" is rewritten with them. Nothing here has an owner reference to one of our kinds:
traffic never hangs on a record.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from canary.api.marks import (
    MANAGED_BY,
    ROLE_CANARY,
    ROLE_LAST_GOOD,
    SIDE_SUFFIX,
    WAY_BACK_SUFFIX,
    Mark,
    side_name,
    way_back_name,
)
from canary.kube.digest import ADDED_LABEL, template_hash
from canary.kube.resources import DEPLOYMENTS, PDBS, SERVICES, Ref, Resource
from canary.kube.selectors import Labels, Selector, keys_of, matches, of_map

MAX_OVERRIDES = 4  # labels that may differ; more would hide the side from its own policies
MAX_LABEL = 63
KEPT_PORT_FIELDS = ("name", "port", "protocol", "targetPort", "appProtocol")
KEPT_SPEC_FIELDS = ("strategy", "minReadySeconds", "progressDeadlineSeconds")

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Owner:
    """The user's objects that a side stands beside, as stored."""

    deployment: Json
    service: Json
    others: tuple[Json, ...] = ()
    """Further Services and disruption budgets of the namespace."""


@dataclass(frozen=True, slots=True)
class Order:
    """One side to be made."""

    owner: Owner
    template: Json
    """The pod template to run, as the target asks for it."""
    replicas: int
    run: str
    role: str = ROLE_CANARY

    @property
    def namespace(self) -> str:
        return self.owner.deployment["metadata"]["namespace"]

    @property
    def suffix(self) -> str:
        return WAY_BACK_SUFFIX if self.role == ROLE_LAST_GOOD else SIDE_SUFFIX

    @property
    def name(self) -> str:
        target = self.owner.deployment["metadata"]["name"]
        return way_back_name(target) if self.role == ROLE_LAST_GOOD else side_name(target)

    @property
    def service_name(self) -> str:
        service = self.owner.service["metadata"]["name"]
        return way_back_name(service) if self.role == ROLE_LAST_GOOD else side_name(service)


def side_objects(order: Order) -> tuple[tuple[Resource, Json], ...]:
    """Return the side's manifests in the order in which they are created: the one with pods comes last.

    Raise ValueError where no choice of labels keeps the side out of the user's selectors; adoption refused that.
    """
    return ((SERVICES, _service(order)), (PDBS, _budget(order)), (DEPLOYMENTS, _deployment(order)))


def label_overrides(labels: Labels, selectors: Sequence[Selector], suffix: str) -> dict[str, str] | None:
    """Return the fewest labels to change so that no selector matches any more, or None where none suffice.

    Labels of the first selector, the Deployment's own, are preferred.
    """
    matching = [selector for selector in selectors if matches(selector, labels)]
    candidates = list(
        dict.fromkeys(key for selector in matching for key in keys_of(selector) if key in labels)
    )
    for size in range(min(MAX_OVERRIDES, len(candidates)) + 1):
        for keys in combinations(candidates, size):
            overrides = {key: _suffixed(labels[key], suffix) for key in keys}
            if not any(matches(selector, {**labels, **overrides}) for selector in matching):
                return overrides
    return None


def selectors_of(owner: Owner) -> list[Selector]:
    """Return every selector that may serve or count the owner's pods, the Deployment's own first."""
    found: list[Selector] = [owner.deployment["spec"]["selector"]]
    for obj in (owner.service, *owner.others):
        if Mark.SIDE in (obj["metadata"].get("labels") or {}):
            continue
        selector = (obj.get("spec") or {}).get("selector")
        if obj["kind"] == SERVICES.kind:
            found += [of_map(selector)] if selector else []
        elif selector is not None:
            found.append(selector)
    return found


def labels_of_template(template: Mapping[str, Any]) -> dict[str, str]:
    """Return the labels of a template's pods, without the one that controllers add."""
    labels = (template.get("metadata") or {}).get("labels") or {}
    return {key: value for key, value in labels.items() if key != ADDED_LABEL}


def side_template(order: Order) -> Json:
    """Return the template with the side's labels, and with every reference to pods like itself rewritten."""
    labels = labels_of_template(order.template)
    overrides = label_overrides(labels, selectors_of(order.owner), order.suffix)
    if overrides is None:
        raise ValueError(
            f"no labels keep {order.name} out of the selectors of {order.owner.service['metadata']['name']}"
        )
    metadata = {**(order.template.get("metadata") or {}), "labels": {**labels, **overrides, **_marks(order)}}
    metadata.pop("creationTimestamp", None)
    spec: Json = dict(order.template["spec"])
    for field in ("affinity", "topologySpreadConstraints"):
        if field in spec:
            spec[field] = _rewritten(spec[field], labels, overrides)
    return {"metadata": metadata, "spec": spec}


def _deployment(order: Order) -> Json:
    spec = order.owner.deployment["spec"]
    template = side_template(order)
    hashes = {
        Mark.TEMPLATE_HASH.value: template_hash(order.template),
        Mark.SIDE_HASH.value: template_hash(template),
    }
    own = {
        "replicas": order.replicas,
        "selector": {"matchLabels": {Mark.SIDE.value: order.name}},
        "template": template,
        **{field: spec[field] for field in KEPT_SPEC_FIELDS if field in spec},
    }
    return _manifest(order, DEPLOYMENTS.at(order.namespace, order.name), own, hashes)


def _service(order: Order) -> Json:
    ports = order.owner.service["spec"].get("ports") or []
    spec = {
        "type": "ClusterIP",
        "selector": {Mark.SIDE.value: order.name},
        "ports": [{field: port[field] for field in KEPT_PORT_FIELDS if field in port} for port in ports],
    }
    return _manifest(order, SERVICES.at(order.namespace, order.service_name), spec)


def _budget(order: Order) -> Json:
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": {Mark.SIDE.value: order.name}}}
    return _manifest(order, PDBS.at(order.namespace, order.name), spec)


def _manifest(order: Order, ref: Ref, spec: Json, annotations: dict[str, str] | None = None) -> Json:
    labels = {**_marks(order), "app.kubernetes.io/managed-by": MANAGED_BY}
    return ref.manifest(
        {"labels": labels, **({"annotations": annotations} if annotations else {})}, spec=spec
    )


def _marks(order: Order) -> dict[str, str]:
    return {
        Mark.ROLE.value: order.role,
        Mark.SIDE.value: order.name,
        Mark.TARGET.value: order.owner.deployment["metadata"]["name"],
        Mark.RUN.value: _label(order.run),
    }


def _label(text: str) -> str:
    """Return a text as a label value: one that is too long keeps its start and gets a hash."""
    if len(text) <= MAX_LABEL:
        return text
    mark = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{text[: MAX_LABEL - 9].rstrip('-._')}-{mark}"


def _suffixed(value: str, suffix: str) -> str:
    return _label(f"{value}{suffix}") if value else suffix.lstrip("-")


def _rewritten(value: Any, labels: Labels, overrides: Labels) -> Any:
    """Rewrite every label selector within an affinity or a spread constraint that means the pods themselves."""
    if isinstance(value, list):
        return [_rewritten(inner, labels, overrides) for inner in value]
    if not isinstance(value, Mapping):
        return value
    return {
        key: _selector(inner, labels, overrides)
        if key == "labelSelector"
        else _rewritten(inner, labels, overrides)
        for key, inner in value.items()
    }


def _selector(selector: Any, labels: Labels, overrides: Labels) -> Any:
    if not isinstance(selector, Mapping) or not matches(selector, labels):
        return selector
    changed: Json = dict(selector)
    if "matchLabels" in selector:
        changed["matchLabels"] = {
            key: overrides.get(key, value) for key, value in selector["matchLabels"].items()
        }
    if "matchExpressions" in selector:
        changed["matchExpressions"] = [
            _term(term, labels, overrides) for term in selector["matchExpressions"]
        ]
    return changed


def _term(term: Json, labels: Labels, overrides: Labels) -> Json:
    key = term["key"]
    if key not in overrides or "values" not in term:
        return term
    return {**term, "values": [overrides[key] if value == labels[key] else value for value in term["values"]]}
