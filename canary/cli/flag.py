"""`canary flag --range BASE..HEAD`: whose work a change is, as annotations that carry its record to the cluster.

Enters: commits by `git`, the environment of the CI job, flags. Leaves: a merge patch, a manifest or JSON on stdout,
the findings on stderr, and with --exit-code a code for each origin. What cannot be computed is an error, never human.
"""

import os
from argparse import ArgumentParser, Namespace
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from canary.api.change import ChangeAnnotation, OriginEvidence
from canary.api.reasons import Origin
from canary.cli.arguments import add_output, add_switch, add_text, add_texts
from canary.cli.changes import annotated, flagged
from canary.cli.exits import Exit
from canary.cli.forge import Job, job_of
from canary.cli.git import Range, Repository
from canary.cli.manifests import objects_of_kind, read_manifests, read_text, template_of, trusted_keys
from canary.cli.terminal import Terminal
from canary.core.rules.proof import Release, images_of

EPILOG = """\
In CI, on a whole clone:   canary flag --range "$LAST_RELEASE..HEAD" -f deploy.yaml | kubectl apply -f -
By hand:                   kubectl patch deploy/checkout --type merge -p "$(canary flag --range v1..v2)"

Branch, labels, opener and texts of the pull request come from GitHub Actions or GitLab CI where it runs there.
`Why:`, `Rollback-plan:` and `Security-impact:` at the beginning of a line of the pull request or of a commit are read.
No signature of an agent proves nothing: the origin is then unknown, which counts as AI. `human` needs a statement of
`canary attest`."""
_OF_ORIGIN = {Origin.HUMAN: Exit.DONE, Origin.AI: Exit.IS_AI, Origin.UNKNOWN: Exit.IS_UNKNOWN}


def configure(verb: str, parser: ArgumentParser) -> None:
    parser.epilog = EPILOG
    add_range(parser, required=True)
    add_output(parser, ("patch", "json", "yaml"))
    parser.add_argument(
        "-f", "--filename", default="", metavar="FILE", help="print these manifests, annotated"
    )
    add_switch(parser, "--exit-code", help="end with 0: proved human, 10: AI, 11: unknown; 2: not computed")
    record = parser.add_argument_group("record")
    add_text(record, "--change-id", "ID", "pull request or ticket; absent: as CI knows it")
    add_text(record, "--what", "TEXT", "what changes; absent: the title")
    add_text(record, "--why", "TEXT", "why; absent: the line `Why: ...`")
    add_text(record, "--rollback-plan", "TEXT", "how to go back")
    add_text(record, "--security-impact", "TEXT", "what it means for security")
    forge = parser.add_argument_group("forge")
    add_text(forge, "--branch", "NAME", "branch of the change; absent: as CI knows it")
    add_text(forge, "--opener", "LOGIN", "who opened the pull request")
    add_texts(forge, "--label", "NAME", "label, besides those of CI")
    add_text(forge, "--repo", "NAME", "where the source is; absent: as CI knows it")
    proof = parser.add_argument_group("proof")
    add_text(proof, "--attestation", "FILE", "statement of `canary attest`")
    add_text(proof, "--trusted", "FILE", "SafetyPolicy whose trustedKeys are believed")


def add_range(parser: ArgumentParser, *, required: bool) -> None:
    """Add what says which commits are meant."""
    parser.add_argument(
        "--range",
        required=required,
        default="",
        metavar="BASE..HEAD",
        help="the commits since the last release, as git names them",
    )
    parser.add_argument("-C", "--directory", default=".", metavar="DIR", help="the clone; absent: here")


def run(verb: str, given: Namespace, terminal: Terminal) -> Exit:
    manifests = read_manifests(given.filename) if given.filename else []
    wanted, texts = Repository(Path(given.directory)).read(given.range), _texts(given)
    found = flagged(wanted, _job(given), texts, _proof(given, wanted, manifests))
    if given.filename:
        for manifest in annotated(manifests, found.annotations()):
            terminal.lines(["---"])
            terminal.yaml(manifest)
    elif given.output == "patch":
        terminal.yaml({"metadata": {"annotations": found.annotations()}})
    else:
        terminal.show(given.output, found.document(), ())
    count = len(wanted.commits)
    commits = f"{count} commit{'s' if count != 1 else ''} by {', '.join(found.authors) or 'nobody'}"
    terminal.note(f"origin {found.origin.value}; {commits}")
    for item in found.evidence:
        terminal.note(f"{item.level} {item.says.value}: {item.source}, {item.detail}")
    return _OF_ORIGIN[found.origin] if given.exit_code else Exit.DONE


def _texts(given: Namespace) -> dict[ChangeAnnotation, str]:
    """Return what the command line says of the change, the signed statement included."""
    return {
        ChangeAnnotation.CHANGE_ID: given.change_id,
        ChangeAnnotation.WHAT: given.what,
        ChangeAnnotation.WHY: given.why,
        ChangeAnnotation.ROLLBACK_PLAN: given.rollback_plan,
        ChangeAnnotation.SECURITY_IMPACT: given.security_impact,
        ChangeAnnotation.ATTESTATION: read_text(given.attestation) if given.attestation else "",
    }


def _job(given: Namespace) -> Job:
    """Return what CI says of the change, with what the command line says more."""
    job = job_of(os.environ)
    forge = replace(
        job.forge,
        branch=given.branch or job.forge.branch,
        opener=given.opener or job.forge.opener,
        labels=(*job.forge.labels, *given.label),
    )
    return replace(job, forge=forge, repo=given.repo or job.repo)


def _proof(given: Namespace, wanted: Range, manifests: list[Any]) -> list[OriginEvidence]:
    """Return what the statement proves of the range, and of the images of the manifests where they are given."""
    if not given.attestation:
        return []
    from canary.audit.attest import judge  # and `cryptography`: where there is something to verify

    templates = [template_of(each) for each in objects_of_kind(manifests, "Deployment")]
    release = Release(
        images=tuple(image for template in templates for image in images_of(template)),
        fields=(),
        base=wanted.base,
        range=str(wanted),
        now=datetime.now(UTC),
        commits=frozenset(commit.sha for commit in wanted.commits),
    )
    return [
        judge(read_text(given.attestation), trusted_keys(given.trusted) if given.trusted else (), release)
    ]
