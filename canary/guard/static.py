"""The guard as files that the API server reads by itself (alpha in Kubernetes 1.36), out of reach through the API.

`canary guard --static` prints them for the directory that the server's admission configuration names. A rule in a
file reads no other object, so those with a parameter are left out and stay what `policies.py` installs. In return it
holds for admission policies, too, which no stored policy can protect: here the guard protects itself.
"""

from dataclasses import replace

from canary.guard.mutations import MUTATING, MUTATING_BINDINGS
from canary.guard.policies import policies
from canary.guard.policy import (
    ADMISSION,
    CREATE,
    DELETE,
    IS_DELETE,
    PREFIX,
    UPDATE,
    VALIDATING,
    VALIDATING_BINDINGS,
    Json,
    Policy,
    Requests,
    Rule,
    Settings,
    manifests,
)

SUFFIX = ".static.k8s.io"  # which the API server demands, and refuses of everything that is stored
KINDS = (VALIDATING, VALIDATING_BINDINGS, MUTATING, MUTATING_BINDINGS)
ITSELF = Policy(
    "admission",
    (Requests(ADMISSION, "*", tuple(kind.plural for kind in KINDS), (CREATE, UPDATE, DELETE)),),
    (
        Rule(
            f"variables.platform || !variables.name.startsWith('{PREFIX}')",
            "this is a rule of canary's guard, or has its name: only a platform group (--platform-group) writes it",
        ),
    ),
    {"name": f"({IS_DELETE} ? oldObject : object).metadata.?name.orValue('')"},
)


def static(settings: Settings) -> list[Json]:
    """Return every manifest for the directory, each policy before its binding."""
    whole = (each for each in (*policies(settings), ITSELF) if each.parameter is None)
    named = (replace(each, name=each.name + SUFFIX) for each in whole)
    return [manifest for policy in named for manifest in manifests(policy, settings)]
