"""The rules about our own kinds (G10): whose word a CanaryRequest is, and who writes the rest. No glass to break here.

To abort and to hold need nothing but the right to create a CanaryRequest: what lowers exposure is asked no questions.
Every other verb is a right of its own on canaryruns, and a person's. That specs are never edited is a rule of the CRDs.
"""

from canary.api.reasons import GROUP, MACHINE_VERBS, VERSION
from canary.guard.policy import (
    CREATE,
    DELETE,
    IS_CREATE,
    IS_DELETE,
    UPDATE,
    Policy,
    Requests,
    Rule,
    Settings,
)
from canary.kube.resources import (
    CANARYPOLICIES,
    CANARYREQUESTS,
    CANARYRUNS,
    SAFETYPOLICIES,
    Resource,
)

SUBJECT = "object.spec.subject"
MAY_ASK = (
    f"authorizer.group('{GROUP}').resource('canaryruns').namespace(request.namespace).name({SUBJECT}.name)"
    ".check(object.spec.verb).allowed()"
)


def _writes(resource: Resource, *operations: str) -> tuple[Requests, ...]:
    return (Requests(GROUP, VERSION, (resource.plural,), operations or (CREATE, UPDATE, DELETE)),)


RUN = Policy(
    "runs",
    _writes(CANARYRUNS),
    (
        Rule(
            f"variables.controller || ({IS_DELETE} && variables.collector)",
            "only canary's controller writes runs; ask with `canary promote`, `abort`, `hold` or `resume`",
        ),
    ),
)
STATUS = Policy(
    "statuses",
    (Requests(GROUP, VERSION, ("*/status",), (UPDATE,)),),
    (Rule("variables.controller", "only canary's controller writes the status of its kinds"),),
)
REQUEST = Policy(
    "requests",
    _writes(CANARYREQUESTS),
    (
        Rule(
            f"!({IS_DELETE}) || variables.collector",
            "a CanaryRequest is a record and stays; `canary reject` or `canary abort` answers it",
        ),
        Rule(
            f"!({IS_CREATE}) || (object.spec.?requester.orValue('') == request.userInfo.username"
            " && object.spec.?groups.orValue([]).all(g, g in request.userInfo.?groups.orValue([])))",
            "spec.requester and spec.groups say who asks: they have to be your own; `canary` fills them in",
        ),
        Rule(
            "variables.free || variables.person",
            f"a machine may ask to {' and to '.join(sorted(MACHINE_VERBS))} only; a person has to ask for this",
        ),
        Rule(
            f"variables.free || {MAY_ASK}",
            "you may not ask for this: it needs the right to this verb on canaryruns of the namespace",
        ),
        Rule(
            f"variables.free || object.metadata.?ownerReferences.orValue([]).exists(o, o.kind == {SUBJECT}.kind"
            f" && o.name == {SUBJECT}.name)",
            "metadata.ownerReferences has to name the subject, so that the record goes with it; `canary` fills it in",
        ),
    ),
    {"free": f"!({IS_CREATE}) || object.spec.verb in {sorted(verb.value for verb in MACHINE_VERBS)}"},
)


def policies_by(settings: Settings) -> tuple[Policy, ...]:
    """Return the rules about CanaryPolicies and SafetyPolicies: people write them, and the accounts named for it."""
    writers = ", ".join(repr(account) for account in settings.gitops_accounts)
    by = Rule(
        f"variables.person || request.userInfo.username in [{writers}] || ({IS_DELETE} && variables.collector)",
        "machines write no policies, but those that the guard names (--gitops-account); a person has to",
    )
    of_workload = Policy(
        "policies",
        _writes(CANARYPOLICIES),
        (
            by,
            Rule(
                f"!({IS_DELETE}) || variables.collector || (oldObject.spec.?mode.orValue('Enforce') != 'Enforce'"
                " && !oldObject.?status.?adopted.orValue(false))",
                "this CanaryPolicy is in force: set mode: Observe first, and wait until canary has given all back",
            ),
        ),
    )
    of_safety = Policy(
        "safety",
        _writes(SAFETYPOLICIES),
        (
            by,
            Rule(
                f"!({IS_DELETE}) || !oldObject.?status.?inForce.orValue(true)",
                "this SafetyPolicy is in force, or was never looked at; it can be deleted after its expiry",
            ),
        ),
    )
    return of_workload, of_safety
