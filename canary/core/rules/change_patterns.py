"""The facts of the known failure patterns on a change, before any traffic: one pure function for each.

A function is named by the fact that it detects and returns it as a clause that names the place, or "" where the change
does not show it. What a finding does, and what to do about it, stands in the table of `patterns`.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from canary.core.rules.templates import (
    Json,
    Proposal,
    containers,
    environment,
    names,
    pairs,
    quantity,
    repository,
)
from canary.core.telling.stored import entries, under, whole

MIN_TEXT = 20  # characters that say something
PLACEHOLDER = re.compile(
    r"todo|tbd|n/?a|none|fix ?me|wip|xxx+|see (the )?(ticket|pr|commit)|same as (before|usual)|[\W\d]*", re.I
)
HASHED_NAME = re.compile(r"-(?=[a-z0-9]*[0-9])[a-z0-9]{5,}$")
MIGRATION = re.compile(r"migrat|flyway|liquibase|alembic|schema-?change", re.I)
PATIENCE = re.compile(r"(retr(y|ies)|timeout|attempts|backoff)", re.I)
GIVEN_THERE = frozenset({"kube-root-ca.crt"})  # configuration that the cluster lays down by itself
CUT, DOUBLED, MANY_CAUSES, HALF = 0.8, 2.0, 4, 0.5
_FIELDS = {"what": "what", "why": "why", "rollbackPlan": "rollback_plan", "securityImpact": "security_impact"}


# -- the record ----------------------------------------------------------------------------------------------------


def record_is_missing(change: Proposal) -> str:
    poor = [name for name in change.required if not _says_something(change, name)]
    return (
        f"the change does not say {names(poor)} (in {MIN_TEXT} characters or more, no placeholder)"
        if poor
        else ""
    )


def _says_something(change: Proposal, name: str) -> bool:
    if name == "changeId":
        return bool(change.record.change_id)
    text = getattr(change.record, _FIELDS[name]).strip(" .!\n")
    return len(text) >= MIN_TEXT and not PLACEHOLDER.fullmatch(text)


def change_id_was_used(change: Proposal) -> str:
    own = change.record.change_id
    used = [
        e
        for e in change.earlier
        if e.promoted and e.change_id == own and e.template_hash != change.template_hash
    ]
    return f"change-id {own} belongs to another version, which was promoted" if own and used else ""


def texts_did_not_change(change: Proposal) -> str:
    last = next((e for e in change.earlier if e.template_hash == change.serving_hash), None)
    same = last is not None and (last.what, last.why) == (change.record.what, change.record.why)
    return "what and why are those of the version that serves" if same and change.record.what else ""


def was_rolled_back_before(change: Proposal) -> str:
    return "this very template was taken back before" if change.template_hash in change.taken_back else ""


# -- images and containers -----------------------------------------------------------------------------------------


def image_has_no_digest(change: Proposal) -> str:
    loose = [
        name for name, each in containers(change.new).items() if "@sha256:" not in str(each.get("image"))
    ]
    return (
        f"the image of {names(loose)} is named by a tag, which may come to mean something else"
        if loose
        else ""
    )


def repository_is_new(change: Proposal) -> str:
    known = {repository(each.get("image")) for each in containers(change.old).values()}
    new = {repository(each.get("image")) for each in containers(change.new).values()} - known
    return f"images come from a repository that did not serve before: {names(new)}" if new else ""


def containers_differ(change: Proposal) -> str:
    old, new = containers(change.old).keys(), containers(change.new).keys()
    return f"containers added or removed: {names(old ^ new)}" if old ^ new else ""


def command_changed(change: Proposal) -> str:
    changed = [
        name for name, old, new in pairs(change) if any(old.get(k) != new.get(k) for k in ("command", "args"))
    ]
    return f"command or arguments of {names(changed)} changed" if changed else ""


def migrates_without_a_way_back(change: Proposal) -> str:
    before = entries(change.old, "spec", "initContainers")
    new = [each for each in entries(change.new, "spec", "initContainers") if each not in before]
    found = [str(each.get("name")) for each in new if MIGRATION.search(_words(each))]
    plan = change.record.rollback_plan.lower()
    said = "reversible" in plan.replace("irreversible", "") or "forward-only" in plan
    return (
        f"{names(found)} migrates data, and the plan says neither reversible nor forward-only"
        if found and not said
        else ""
    )


def _words(container: Json) -> str:
    parts = [
        container.get("name"),
        container.get("image"),
        *(container.get("command") or []),
        *(container.get("args") or []),
    ]
    return " ".join(map(str, parts))


# -- health and resources ------------------------------------------------------------------------------------------


def probe_is_gone_or_looser(change: Proposal) -> str:
    found = [
        f"{name}'s {probe}"
        for name, old, new in pairs(change)
        for probe in ("livenessProbe", "readinessProbe", "startupProbe")
        if old.get(probe) and _is_looser(old[probe], new.get(probe) or {})
    ]
    return f"{names(found)} is gone or waits longer" if found else ""


def _is_looser(old: Json, new: Json) -> bool:
    defaults = {"failureThreshold": 3, "periodSeconds": 10, "timeoutSeconds": 1}
    return not new or any(new.get(key, default) > old.get(key, default) for key, default in defaults.items())


def resources_were_cut(change: Proposal) -> str:
    found = [
        f"{name}'s {kind}.{what}"
        for name, old, new in pairs(change)
        for kind in ("requests", "limits")
        for what, before in (under(old, "resources", kind) or {}).items()
        if _is_cut(quantity(before), quantity((under(new, "resources", kind) or {}).get(what)), kind)
    ]
    return f"{names(found)} cut by more than 20 %" if found else ""


def _is_cut(old: float | None, new: float | None, kind: str) -> bool:
    if old is None:
        return False
    return kind == "requests" if new is None else new < CUT * old  # a limit that is gone is no cut


def replicas_were_cut(change: Proposal) -> str:
    asked = whole(change.deployment.get("replicas", 1))
    cut = asked < change.serving_pods
    return (
        f"{asked} pods are asked for, {change.serving_pods} serve: a cut hides in the change" if cut else ""
    )


def rolls_without_old_pods(change: Proposal) -> str:
    strategy = change.deployment.get("strategy") or {}
    if strategy.get("type") == "Recreate":
        return "strategy Recreate takes every pod away before the first new one serves"
    most = under(strategy, "rollingUpdate", "maxUnavailable")
    replicas = max(1, whole(change.deployment.get("replicas", 1)))
    share = float(most[:-1]) / 100 if isinstance(most, str) and most.endswith("%") else whole(most) / replicas
    return f"maxUnavailable {most} lets half of the pods go at once" if share >= HALF else ""


def ends_in_haste(change: Proposal) -> str:
    def grace(template: Json) -> int:
        given = under(template, "spec", "terminationGracePeriodSeconds")
        return 30 if given is None else whole(given)

    gone = [
        name
        for name, old, new in pairs(change)
        if under(old, "lifecycle", "preStop") and not under(new, "lifecycle", "preStop")
    ]
    if gone:
        return f"preStop of {names(gone)} is gone: requests under way are cut"
    old, new = grace(change.old), grace(change.new)
    return f"terminationGracePeriodSeconds falls from {old} to {new}" if new < old else ""


def metrics_port_is_gone(change: Proposal) -> str:
    wanted = change.metrics_port

    def has(template: Json) -> bool:
        ports = [
            port for each in containers(template, also_init=False).values() for port in entries(each, "ports")
        ]
        return any(wanted in (port.get("name"), str(port.get("containerPort"))) for port in ports)

    return (
        f"port {wanted} is gone, from which the counts are read: nobody could judge it"
        if wanted and has(change.old) and not has(change.new)
        else ""
    )


def spread_is_gone(change: Proposal) -> str:
    fields = ("topologySpreadConstraints", "affinity", "priorityClassName")
    gone = [
        name for name in fields if under(change.old, "spec", name) and not under(change.new, "spec", name)
    ]
    return f"{names(gone)} is gone" if gone else ""


# -- what it is wired to -------------------------------------------------------------------------------------------


def labels_leave_the_service(change: Proposal) -> str:
    old, new = (under(template, "metadata", "labels") or {} for template in (change.old, change.new))

    def selected(labels: Mapping[str, Any], selector: Mapping[str, str]) -> bool:
        return all(labels.get(key) == value for key, value in selector.items())

    left = [
        selector for selector in change.selectors if selected(old, selector) and not selected(new, selector)
    ]
    return (
        f"a Service that serves customers selects it no more: {names(f'{k}={v}' for k, v in left[0].items())}"
        if left
        else ""
    )


def configuration_has_no_hash(change: Proposal) -> str:
    loose = [name for name in _configuration(change.new) if not HASHED_NAME.search(name)]
    return f"{names(loose)} can change without a change of the template; name it by a hash" if loose else ""


def _configuration(template: Json) -> Iterator[str]:
    """Yield the names of the ConfigMaps and Secrets that a template refers to."""
    for container in containers(template).values():
        sources = [
            *entries(container, "envFrom"),
            *(each.get("valueFrom") for each in entries(container, "env")),
        ]
        for kind in ("configMapRef", "secretRef", "configMapKeyRef", "secretKeyRef"):
            yield from (str(found) for each in sources if (found := under(each, kind, "name")))
    for volume in entries(template, "spec", "volumes"):
        for source in (volume, *entries(volume, "projected", "sources")):
            found = (
                under(source, "configMap", "name")
                or under(source, "secret", "secretName")
                or under(source, "secret", "name")
            )
            if found and found not in GIVEN_THERE:
                yield str(found)


def service_account_changed(change: Proposal) -> str:
    old, new = (
        under(template, "spec", "serviceAccountName") or "default" for template in (change.old, change.new)
    )
    return f"the service account changes from {old} to {new}, and its rights with it" if old != new else ""


def environment_changed(change: Proposal) -> str:
    found = [
        key
        for _, old, new in pairs(change)
        for key, value in environment(old).items()
        if environment(new).get(key) != value
    ]
    return f"values of the environment changed or are gone: {names(found)}" if found else ""


def patience_doubled(change: Proposal) -> str:
    found = [
        key
        for _, old, new in pairs(change)
        for key, value in environment(new).items()
        if PATIENCE.search(key) and _doubled(quantity(environment(old).get(key)), quantity(value))
    ]
    return f"{names(found)} is twice what it was or more: a failure then multiplies the load" if found else ""


def _doubled(old: float | None, new: float | None) -> bool:
    return old is not None and new is not None and old > 0 and new >= DOUBLED * old


def volume_is_gone_or_alone(change: Proposal) -> str:
    old, new = (
        {str(v.get("name")): v for v in entries(t, "spec", "volumes")} for t in (change.old, change.new)
    )
    if gone := old.keys() - new.keys():
        return f"volume {names(gone)} is gone"
    claims = [
        name
        for name in new.keys() - old.keys()
        if (claim := under(new[name], "persistentVolumeClaim")) and not claim.get("readOnly")
    ]
    return f"volume {names(claims)} is a claim: two versions beside each other write it" if claims else ""


# -- power ---------------------------------------------------------------------------------------------------------


def gains_power(change: Proposal) -> str:
    gained = sorted(set(_powers(change.new)) - set(_powers(change.old)))
    return f"gains {names(gained)}" if gained else ""


def _powers(template: Json) -> Iterator[str]:
    spec = under(template, "spec") or {}
    yield from (name for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name))
    yield from ("a hostPath volume" for each in entries(spec, "volumes") if each.get("hostPath"))
    contexts = [
        spec.get("securityContext"),
        *(each.get("securityContext") for each in containers(template).values()),
    ]
    for context in (each for each in contexts if isinstance(each, Mapping)):
        yield from (name for name in ("privileged", "allowPrivilegeEscalation") if context.get(name))
        yield from (f"capability {name}" for name in under(context, "capabilities", "add") or [])
        if context.get("runAsUser") == 0 or context.get("runAsNonRoot") is False:
            yield "root"


# -- all together --------------------------------------------------------------------------------------------------


def changes_many_things(change: Proposal) -> str:
    causes = {
        "containers": containers_differ(change),
        "images": any(old.get("image") != new.get("image") for _, old, new in pairs(change)),
        "command": command_changed(change),
        "environment": environment_changed(change),
        "resources": any(old.get("resources") != new.get("resources") for _, old, new in pairs(change)),
        "probes": probe_is_gone_or_looser(change),
        "volumes": under(change.old, "spec", "volumes") != under(change.new, "spec", "volumes"),
        "account": service_account_changed(change),
    }
    many = [name for name, found in causes.items() if found]
    return f"{len(many)} kinds of things change at once: {names(many, 8)}" if len(many) >= MANY_CAUSES else ""
