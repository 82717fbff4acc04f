"""All rules of the guard as manifests, for a version of Kubernetes: what `canary guard` prints.

The controller compares the same manifests with what is installed (`fingerprint.py`), so they are made from nothing but
the settings and the version.
"""

import re

from canary.errors import RefusedError
from canary.guard import kinds, mutations, neighbours, platform, pods, traffic, workload
from canary.guard.policy import Json, Policy, Settings, manifests

OLDEST = (1, 30)  # ValidatingAdmissionPolicy is admissionregistration.k8s.io/v1 from here
Version = tuple[int, int]


def policies(settings: Settings) -> tuple[Policy, ...]:
    """Return the rules; each policy is whole for itself."""
    return (
        workload.HOLD,
        workload.SIDE,
        workload.deletions(settings),
        traffic.ROUTE,
        traffic.ceiling(settings),
        traffic.slice_ceiling(settings),
        neighbours.SERVICE,
        neighbours.SCALE,
        neighbours.AUTOSCALER,
        neighbours.ENDPOINTS,
        neighbours.SLICES,
        pods.PODS,
        pods.SETS,
        pods.SET_SCALE,
        pods.ENTERED,
        kinds.RUN,
        kinds.STATUS,
        kinds.REQUEST,
        *kinds.policies_by(settings),
        platform.NAMESPACE,
        platform.CRD,
        *platform.CONFIG,
        *platform.own(settings),
    )


def guard(settings: Settings, kubernetes: Version) -> list[Json]:
    """Return every manifest for this version of Kubernetes, each policy before its binding.

    Raise RefusedError for one that is too old to keep any of it.
    """
    if kubernetes < OLDEST:
        raise RefusedError(
            f"Kubernetes {_text(kubernetes)} is too old for the guard; it needs {_text(OLDEST)}"
        )
    found = [manifest for policy in policies(settings) for manifest in manifests(policy, settings)]
    if kubernetes >= mutations.SINCE:
        found += [each for one in mutations.MUTATIONS for each in mutations.manifests(one, settings)]
    return found


def version_of(text: str) -> Version:
    """Read "1.36", "v1.36.3" or "1.36+". Raise RefusedError for anything else."""
    read = re.match(r"v?([0-9]{1,3})\.([0-9]{1,3})", text)
    if read is None:
        raise RefusedError(f"{text[:40]!r} is no version of Kubernetes; write for example 1.36")
    return int(read[1]), int(read[2])


def _text(version: Version) -> str:
    return f"{version[0]}.{version[1]}"
