"""What the forge says of a change, from the environment of a CI job: GitHub Actions, GitLab CI, or neither.

Evidence level E3: it is as trustworthy as those who may edit the job. Flags of `canary flag` add to it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from canary.core.rules.origin import Forge
from canary.errors import RefusedError

MAX_EVENT_BYTES = 16 * 1024 * 1024
MAX_LABELS = 100


@dataclass(frozen=True, slots=True)
class Job:
    """A CI job and the pull request that it runs for; whatever is not known is empty."""

    forge: Forge = Forge()
    repo: str = ""
    change_id: str = ""
    trigger: str = ""
    """Who started the job."""


def job_of(environment: Mapping[str, str]) -> Job:
    """Return what the environment tells. Raise RefusedError where it names an event that cannot be read."""
    if environment.get("GITHUB_ACTIONS") == "true":
        return _github(environment)
    return _gitlab(environment) if environment.get("GITLAB_CI") == "true" else Job()


def _github(environment: Mapping[str, str]) -> Job:
    pull = _pull_request(environment.get("GITHUB_EVENT_PATH", ""))
    labels = [_text(label, "name") for label in pull.get("labels") or [] if isinstance(label, Mapping)]
    repo, number = environment.get("GITHUB_REPOSITORY", ""), pull.get("number")
    forge = Forge(
        branch=environment.get("GITHUB_HEAD_REF") or environment.get("GITHUB_REF_NAME", ""),
        opener=_text(pull.get("user"), "login"),
        labels=tuple(labels[:MAX_LABELS]),
        texts=(_text(pull, "title"), _text(pull, "body")) if pull else (),
    )
    trigger = environment.get("GITHUB_TRIGGERING_ACTOR") or environment.get("GITHUB_ACTOR", "")
    return Job(forge, repo, f"{repo}#{number}" if number else "", trigger)


def _pull_request(path: str) -> Mapping[str, Any]:
    try:
        with Path(path).open("rb") as file:
            event = json.loads(file.read(MAX_EVENT_BYTES)) if path else {}
    except IsADirectoryError:
        event = {}
    except (OSError, ValueError, RecursionError) as error:
        raise RefusedError(f"the event in {path} cannot be read: {error}", code="CAN-2301") from error
    pull = event.get("pull_request") if isinstance(event, Mapping) else None
    return pull if isinstance(pull, Mapping) else {}


def _gitlab(environment: Mapping[str, str]) -> Job:
    repo, number = environment.get("CI_PROJECT_PATH", ""), environment.get("CI_MERGE_REQUEST_IID", "")
    labels = [label for label in environment.get("CI_MERGE_REQUEST_LABELS", "").split(",") if label]
    texts = (
        environment.get("CI_MERGE_REQUEST_TITLE", ""),
        environment.get("CI_MERGE_REQUEST_DESCRIPTION", ""),
    )
    branch = environment.get("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME") or environment.get(
        "CI_COMMIT_REF_NAME", ""
    )
    forge = Forge(branch=branch, labels=tuple(labels[:MAX_LABELS]), texts=texts if number else ())
    return Job(forge, repo, f"{repo}!{number}" if number else "", environment.get("GITLAB_USER_LOGIN", ""))


def _text(value: object, key: str) -> str:
    found = value.get(key) if isinstance(value, Mapping) else None
    return found if isinstance(found, str) else ""
