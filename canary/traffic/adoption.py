"""Why the routes of a Service cannot be split, each reason with its remedy; and what a split would write, in words.

A dry run over stored routes, pure. `HTTPRouteRouter.plan` gathers the routes of the namespace and those of others that
lead into it. All of what is refused here has cost somebody an outage: a rule left out, a session cookie that pins users
to the new version, two controllers that write weights in turn.
"""

from collections.abc import Iterable, Sequence

from canary.api.marks import TRUE, WAY_BACK_SUFFIX, Mark
from canary.api.reasons import PPM
from canary.traffic.brake import MAX_RULES, Backend, Object, backends, positions, stable_of
from canary.traffic.router import Plan, Target
from canary.traffic.rules import annotations_of
from canary.traffic.sight import name_of, names

MAX_BACKENDS = 16  # of one rule, by the Gateway API
MAX_SERVICE_NAME = 63
FOREIGN_WRITERS = {
    "flagger": "Flagger",
    "rollouts-controller": "Argo Rollouts",
    "argo-rollouts": "Argo Rollouts",
    "kruise-rollout": "Kruise Rollouts",
}


def plan_routes(target: Target, routes: Sequence[Object], foreign: Sequence[Object]) -> Plan:
    """Return the plan. `routes` are all of the target's namespace, `foreign` those of every other one."""
    named = [route for route in routes if names(route, target)]
    naming = [route for route in named if route.get("kind", target.route.kind) == target.route.kind]
    refusals = [*_of_target(target, naming), *_of_foreign_routes(target, foreign)]
    refusals += [_of_other_kind(target, route) for route in named if route not in naming]
    for route in naming:
        refusals += _of_route(target, route)
    refusals += _of_mirrors(target, routes)
    warnings = [warning for route in naming for warning in _retries(target, route)]
    writes = [write for route in naming for write in _writes(target, route)]
    return Plan(tuple(writes), tuple(refusals), tuple(warnings))


def _of_target(target: Target, naming: Sequence[Object]) -> list[str]:
    wanted, found = target.route.name, [name_of(route) for route in naming]
    refusals: list[str] = []
    if len(target.way_back_service) > MAX_SERVICE_NAME:
        longest = MAX_SERVICE_NAME - len(WAY_BACK_SUFFIX)
        refusals.append(
            f"{target.way_back_service} would be too long for a Service; {target.service} may have {longest} characters"
        )
    if wanted is None and not found:
        refusals.append(
            f"no {target.route.kind} in {target.namespace} names Service {target.service}; create one, or use "
            "route.kind EndpointSlice"
        )
    if wanted is not None and wanted not in found:
        refusals.append(
            f"{target.route.kind} {wanted} does not name Service {target.service}; correct route.name"
        )
    others = [name for name in found if wanted is not None and name != wanted]
    if others:
        refusals.append(
            f"{', '.join(others)} also names Service {target.service}, and traffic through it would not be split; "
            "remove route.name from the policy, so that every route is"
        )
    rules = sum(bool(positions(refs, target.service)) for route in naming for refs in backends(route))
    if rules > MAX_RULES:
        refusals.append(
            f"{rules} rules name Service {target.service}; the most that can be taken back at once is {MAX_RULES}"
        )
    return refusals


def _of_other_kind(target: Target, route: Object) -> str:
    return (
        f"{route.get('kind')} {name_of(route)} also names Service {target.service}, and a policy splits routes of one "
        f"kind, here {target.route.kind}; give {target.service} routes of one kind"
    )


def _of_foreign_routes(target: Target, foreign: Iterable[Object]) -> list[str]:
    return [
        f"route {name_of(route)} in namespace {route['metadata'].get('namespace')} leads to Service "
        f"{target.service}; move it to namespace {target.namespace}, where this policy covers it"
        for route in foreign
        if _leads_into(route, target)
    ]


def _leads_into(route: Object, target: Target) -> bool:
    rules: list[Object] = (route.get("spec") or {}).get("rules") or []
    refs = [ref for rule in rules for ref in rule.get("backendRefs") or []]
    return any(ref.get("namespace") == target.namespace and ref.get("name") == target.service for ref in refs)


def _of_route(target: Target, route: Object) -> list[str]:
    refusals = [
        f"{who} writes the weights of route {name_of(route)}; end its canary first, two writers would fight"
        for who in sorted(_writers(route))
    ]
    rules: list[Object] = (route.get("spec") or {}).get("rules") or []
    for index, (rule, refs) in enumerate(zip(rules, backends(route), strict=True)):
        if any(ref.service in target.services for ref in refs):
            where = f"route {name_of(route)}, rule {index}"
            refusals += [f"{where} {why}" for why in _of_rule(target, stable_of(route), rule, refs)]
    return refusals


def _of_rule(target: Target, attached_to: str, rule: Object, refs: Sequence[Backend]) -> list[str]:
    stables = positions(refs, target.service)
    ours = [ref.service for ref in refs if ref.service in target.services[1:]]
    refusals: list[str] = []
    if ours and attached_to != target.service:
        refusals.append(f"already names {ours[0]}, which is not ours; remove that reference")
    if len(refs) - len(ours) >= MAX_BACKENDS:
        refusals.append(f"has {len(refs)} backends, the most that a rule may have; remove one")
    elif len(refs) - len(ours) > len(stables):
        refusals.append(
            f"names {target.service} beside other backends; give {target.service} a rule of its own"
        )
    if len(stables) > 1:
        refusals.append(f"names {target.service} {len(stables)} times; name it once")
    if stables and refs[stables[0]].weight == 0:
        refusals.append(f"gives {target.service} weight 0; give it a weight, or remove the rule")
    if rule.get("sessionPersistence"):
        refusals.append(
            "keeps sessions, so users would stay on the new version after a rollback; remove sessionPersistence"
        )
    return refusals


def _of_mirrors(target: Target, routes: Iterable[Object]) -> list[str]:
    """Refuse a mirror from or to the Service: it doubles whatever a request does, unless that is nothing."""
    return [
        f"route {name_of(route)}, rule {index} mirrors requests; remove the filter, or set the annotation "
        f'{Mark.READ_ONLY}: "true" on the route if its requests change nothing'
        for route in routes
        if annotations_of(route).get(Mark.READ_ONLY) != TRUE
        for index, rule in enumerate((route.get("spec") or {}).get("rules") or [])
        if _mirrors(target, rule)
    ]


def _mirrors(target: Target, rule: Object) -> bool:
    refs: list[Object] = rule.get("backendRefs") or []
    filters: list[Object] = [
        *(rule.get("filters") or []),
        *(each for ref in refs for each in ref.get("filters") or []),
    ]
    mirrors = [each for each in filters if each.get("type") == "RequestMirror"]
    mirrored = [((each.get("requestMirror") or {}).get("backendRef") or {}).get("name") for each in mirrors]
    from_us = bool(mirrors) and any(ref.get("name") in target.services for ref in refs)
    return from_us or any(name in target.services for name in mirrored)


def _writers(route: Object) -> set[str]:
    entries: list[Object] = route["metadata"].get("managedFields") or []
    managers = {str(entry.get("manager", "")) for entry in entries if not entry.get("subresource")}
    return {FOREIGN_WRITERS[manager] for manager in managers & FOREIGN_WRITERS.keys()}


def _retries(target: Target, route: Object) -> list[str]:
    rules: list[Object] = (route.get("spec") or {}).get("rules") or []
    return [
        f"route {name_of(route)}, rule {index} retries: a retry can hide an error or place an order twice"
        for index, rule in enumerate(rules)
        if rule.get("retry")
        and any(ref.get("name") == target.service for ref in rule.get("backendRefs") or [])
    ]


def _writes(target: Target, route: Object) -> list[str]:
    return [
        f"{target.route.kind} {name_of(route)}, rule {index}: add {target.side_service} at weight 0, set "
        f"{target.service} from {refs[stables[0]].weight} to {PPM}"
        for index, refs in enumerate(backends(route))
        if (stables := positions(refs, target.service)) and not positions(refs, target.side_service)
    ]
