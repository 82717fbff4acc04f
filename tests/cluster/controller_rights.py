"""What canary may do on a bed: what the chart grants, and no more. And what it did, from the API server's audit log.

Whatever it asks beyond that is answered 403 and found by a test, and so is a right that nothing uses. `RARER` are the
rights that no run from adoption to its end needs, each with the road that does.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from canary.api.reasons import GROUP

FILES = Path(__file__).resolve().parents[2] / "charts" / "canary-controller" / "files" / "rights"
REACHES = ("shops", "cluster", "own")
Object = dict[str, Any]
Right = tuple[str, str]  # a verb, and a resource as group/plural/subresource

RARER: dict[str, str] = {
    f"{GROUP}/canaryrequests/status": "patch",  # a person asks for something
    "apps/statefulsets": "list",  # this and the next: `--audit`
    "apps/daemonsets": "list",
    "apps/controllerrevisions": "get list delete",  # a commit is taken back; a Deployment is given back
    "autoscaling/horizontalpodautoscalers": "get patch",  # an autoscaler scales the target
    "gateway.networking.k8s.io/grpcroutes": "get list patch",  # a shop that speaks gRPC
    "authorization.k8s.io/subjectaccessreviews": "create",  # a safety policy asks who may approve
    f"{GROUP}/safetypolicies/status": "patch",  # there is a safety policy
    "namespaces": "list",  # this and the next four: `--guard required`
    "admissionregistration.k8s.io/validatingadmissionpolicies": "list",
    "admissionregistration.k8s.io/validatingadmissionpolicybindings": "list",
    "admissionregistration.k8s.io/mutatingadmissionpolicies": "list",
    "admissionregistration.k8s.io/mutatingadmissionpolicybindings": "list",
}


def rules_of(account: str, *reaches: str) -> list[Object]:
    """Return the rules of an account, controller or sentinel, as the chart has them; without a reach, of all."""
    paths = [FILES / f"{account}-{reach}.yaml" for reach in reaches or REACHES]
    texts = [path.read_text(encoding="utf-8") for path in paths if path.exists()]
    return [rule for text in texts for rule in yaml.load(text, Loader=yaml.CSafeLoader)]


def granted(rules: Iterable[Object]) -> set[Right]:
    """Return every right that rules give."""
    return {
        (verb, f"{group}/{resource}".lstrip("/"))
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def rarer() -> set[Right]:
    return {(verb, resource) for resource, verbs in RARER.items() for verb in verbs.split()}


def used(audit_log: Path, user: str, namespaces: set[str], after: int = 0) -> tuple[set[Right], set[Right]]:
    """Return the rights that a user used in these namespaces or cluster-wide, and those that it was denied.

    `after` is how long the log was, in bytes, as the story began: others on the same bed acted under that name, too.
    """
    allowed: set[Right] = set()
    denied: set[Right] = set()
    for line in audit_log.read_bytes()[after:].splitlines():
        event = json.loads(line)
        asked = event.get("objectRef")
        if not asked:
            continue  # the server's version, which is everybody's
        if event["user"]["username"] != user or asked.get("namespace", "") not in {"", *namespaces}:
            continue  # another test, in the same name or in another one's
        parts = (asked.get("apiGroup", ""), asked.get("resource", ""), asked.get("subresource", ""))
        right = (event["verb"], "/".join(part for part in parts if part))
        forbidden = (
            event["annotations"]["authorization.k8s.io/decision"] == "forbid"
        )  # no right; a policy is another 403
        (denied if forbidden else allowed).add(right)
    return allowed, denied
