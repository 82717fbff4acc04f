"""`canary attest`: sign that people alone wrote the commits of a release, or verify such a statement, offline.

Nothing is signed that would prove nothing: every commit must carry the signature of a person in the file of allowed
signers, and no commit the signature of an agent. The envelope goes into the record by `canary flag --attestation`.
"""

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from canary.api.attestation import MAX_COMMITS, ChangeOrigin, ImageDigest, SignedCommit, Statement, Subject
from canary.cli.arguments import add_switch, add_text, add_texts, seconds
from canary.cli.changes import flagged
from canary.cli.exits import Exit
from canary.cli.flag import add_range
from canary.cli.forge import job_of
from canary.cli.git import Range, Repository, Signed
from canary.cli.manifests import read_text, trusted_keys
from canary.cli.terminal import Terminal
from canary.core.rules.proof import AT_DIGEST, unsigned
from canary.errors import RefusedError

EPILOG = """\
canary attest --range v1.4.0..HEAD --image shop@sha256:... --key ci.pem --key-id ci-main --allowed-signers people
canary attest --verify statement.json --trusted safety.yaml
canary attest --public-key --key ci.pem        the line for trustedKeys of a SafetyPolicy

Keys are Ed25519 or ECDSA P-256 in PEM form (openssl genpkey -algorithm ed25519). The file of allowed signers is git's
own: ssh-keygen(1), ALLOWED SIGNERS."""
NOT_SIGNED = "CAN-2304"
MONTH = timedelta(days=30).total_seconds()


def configure(verb: str, parser: ArgumentParser) -> None:
    parser.epilog = EPILOG
    add_range(parser, required=False)
    add_texts(parser, "--image", "NAME@DIGEST", "an image of the release; all of them")
    add_texts(parser, "--field", "PATH", "a field of the pod template that changes, too")
    add_texts(parser, "--reviewer", "NAME", "who read it")
    add_text(parser, "--repo", "NAME", "where the source is; absent: as CI knows it")
    add_text(parser, "--key", "FILE", "private key that signs")
    add_text(parser, "--key-id", "ID", "what trustedKeys call the key")
    add_text(parser, "--allowed-signers", "FILE", "whose signatures of commits count")
    parser.add_argument(
        "--valid",
        type=seconds,
        default=MONTH,
        metavar="DURATION",
        help="how long it proves anything; default 30d",
    )
    add_text(parser, "--verify", "FILE", "verify this statement; sign nothing")
    add_text(parser, "--trusted", "FILE", "SafetyPolicy whose trustedKeys are believed")
    add_switch(parser, "--public-key", help="print the public half of --key; sign nothing")


def run(verb: str, given: Namespace, terminal: Terminal) -> Exit:
    from canary.audit.attest import (  # and `cryptography`, when the verb is asked for
        private_key,
        sign,
        written,
    )

    if given.verify:
        return _verify(given, terminal)
    _require(given, ["key"] if given.public_key else ["range", "image", "key", "key_id", "allowed_signers"])
    try:
        key = private_key(Path(given.key).read_bytes())
    except OSError as error:
        raise RefusedError(f"cannot read {given.key}: {error.strerror}", code="CAN-2005") from error
    if given.public_key:
        terminal.lines([written(key)])
        return Exit.DONE
    print(sign(_statement(given), key, given.key_id), file=terminal.out, flush=True)
    return Exit.DONE


def _require(given: Namespace, names: Iterable[str]) -> None:
    missing = [f"--{name.replace('_', '-')}" for name in names if not getattr(given, name)]
    if missing:
        raise RefusedError(f"{', '.join(missing)} must be given; `canary attest --help` shows how")


def _verify(given: Namespace, terminal: Terminal) -> Exit:
    """Say what a statement states; exit 1 where no trusted key signed it, or it is over."""
    from canary.audit.attest import verify

    _require(given, ["trusted"])
    try:
        statement = verify(read_text(given.verify), trusted_keys(given.trusted))
    except RefusedError as error:
        terminal.note(f"{given.verify} proves nothing: {error}")
        return Exit.FAILED
    origin = statement.predicate
    terminal.lines(
        [
            f"range    {origin.base}..{origin.head} of {origin.repo or 'an unnamed repository'}",
            *(f"image    {each.name}{AT_DIGEST}{each.digest.sha256}" for each in statement.subject),
            *(f"commit   {each.sha[:12]} {each.author}, key {each.key or 'none'}" for each in origin.commits),
            *(f"agent    {agent}" for agent in origin.agents),
            *(f"field    {field}" for field in origin.fields),
            f"expires  {origin.expires_at:%Y-%m-%dT%H:%M:%SZ}",
        ]
    )
    over = origin.expires_at <= datetime.now(UTC)
    gaps = [
        *unsigned(origin),
        *(["it is over"] if over else []),
        *(["agents took part"] if origin.agents else []),
    ]
    terminal.note(
        f"proves nothing: {gaps[0]}" if gaps else "the signature of a trusted key, and every commit signed"
    )
    return Exit.FAILED if gaps else Exit.DONE


def _statement(given: Namespace) -> Statement:
    """Return what can be stated of a range; refuse where it is not the work of people alone."""
    repository, job = Repository(Path(given.directory)), job_of(os.environ)
    wanted = repository.read(given.range)
    if not 0 < len(wanted.commits) <= MAX_COMMITS:
        raise _refused(f"{len(wanted.commits)} commits; a statement speaks of 1 to {MAX_COMMITS}")
    found = flagged(wanted, job, {}, ())
    if found.evidence:
        raise _refused(f"{found.evidence[0].source}, {found.evidence[0].detail}")
    origin = ChangeOrigin(
        repo=(given.repo or job.repo)[:256],
        base=wanted.base,
        head=wanted.head,
        commits=_commits(wanted, repository.signatures(wanted, Path(given.allowed_signers))),
        reviewers=given.reviewer,
        fields=given.field,
        expires_at=datetime.now(UTC) + timedelta(seconds=given.valid),
    )
    return Statement(subject=[_subject(image) for image in given.image], predicate=origin)


def _commits(wanted: Range, signatures: Mapping[str, Signed]) -> list[SignedCommit]:
    for commit in wanted.commits:
        if not signatures[commit.sha].key:
            raise _refused(f"no person among the allowed signers signed {commit.sha[:12]} by {commit.author}")
    return [
        SignedCommit(
            sha=commit.sha,
            author=commit.author[:256],
            key=signatures[commit.sha].key,
            presence=signatures[commit.sha].presence,
        )
        for commit in wanted.commits
    ]


def _subject(image: str) -> Subject:
    name, _, digest = image.partition(AT_DIGEST)
    if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        raise RefusedError(
            f"the image {image} has no digest; write {name or 'shop'}{AT_DIGEST}...", code=NOT_SIGNED
        )
    return Subject(name=name, digest=ImageDigest(sha256=digest))


def _refused(why: str) -> RefusedError:
    return RefusedError(f"nothing was signed: {why}", code=NOT_SIGNED)
