"""The commits of a range, read with `git`: what `canary flag` and `canary attest` look at.

Leaves: full commits, oldest last, or a refusal that says what to fetch. Nothing is guessed: a shallow clone or an
unknown commit is an error, because commits that are not seen cannot be judged. Nothing in the repository is executed.
"""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from canary.core.rules.origin import Commit
from canary.errors import RefusedError

NOT_COMPUTED = "CAN-2301"
MAX_COMMITS = 10_000
MAX_BYTES = 256 * 1024 * 1024
SECONDS = 120.0
_COMMIT = "%H%x00%an <%ae>%x00%cn <%ce>%x00%B%x00"
_SIGNATURE = "%H%x00%G?%x00%GK%x00%GG%x00"
_CALM = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "log.showSignature=false")


@dataclass(frozen=True, slots=True)
class Range:
    """The commits after `base` up to `head`, newest first."""

    base: str
    head: str
    commits: tuple[Commit, ...]
    straight: bool
    """The base is an ancestor of the head: nothing is taken away."""

    def __str__(self) -> str:
        return f"{self.base}..{self.head}"


@dataclass(frozen=True, slots=True)
class Signed:
    """A verified signature of a commit; an empty key: there is none of a known person."""

    key: str
    presence: bool


class Repository:
    """A clone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, text: str) -> Range:
        """Return the range "BASE..HEAD", whole. Raise RefusedError where it cannot be seen whole."""
        first, dots, last = text.partition("..")
        if not (first and dots and last) or last.startswith("."):
            raise RefusedError(
                f"{text!r} is no range; write BASE..HEAD, for example v1.4.0..HEAD", code=NOT_COMPUTED
            )
        if self._git("rev-parse", "--is-shallow-repository").strip() == b"true":
            text = "the clone is shallow, so commits of the range may be missing: fetch it whole (fetch-depth: 0)"
            raise RefusedError(text, code=NOT_COMPUTED)
        base, head = self._commit(first), self._commit(last)
        count = int(self._git("rev-list", "--count", f"{base}..{head}"))
        if count > MAX_COMMITS:
            raise RefusedError(
                f"{count} commits are more than {MAX_COMMITS}: name a later base", code=NOT_COMPUTED
            )
        fields = self._fields(_COMMIT, f"{base}..{head}")
        commits = tuple(Commit(*fields[at : at + 4]) for at in range(0, len(fields), 4))
        straight = self._git("merge-base", base, head, wrong=(1,)).decode().strip() == base
        return Range(base, head, commits, straight)

    def signatures(self, wanted: Range, allowed_signers: Path) -> dict[str, Signed]:
        """Return who signed each commit: SSH signatures of the people in the file of allowed signers."""
        known = ("-c", "gpg.format=ssh", "-c", f"gpg.ssh.allowedSignersFile={allowed_signers.absolute()}")
        fields = self._fields(_SIGNATURE, str(wanted), known)
        rows = [fields[at : at + 4] for at in range(0, len(fields), 4)]
        return {sha: _signed(grade, key, said) for sha, grade, key, said in rows}

    def _commit(self, name: str) -> str:
        found = self._git(
            "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}", wrong=(1, 128)
        )
        if not found:
            raise RefusedError(f"there is no commit {name!r} in this clone: fetch it", code=NOT_COMPUTED)
        return found.decode().strip()

    def _fields(self, form: str, revisions: str, options: Sequence[str] = ()) -> list[str]:
        """Return the fields of all commits in a row; each ends with a NUL."""
        raw = self._git(
            *options, "log", "--no-notes", "--encoding=UTF-8", f"--format={form}", revisions, "--"
        )
        fields = raw.decode(errors="replace").split("\0")[:-1]
        return [field.removeprefix("\n") for field in fields]

    def _git(self, *words: str, wrong: Sequence[int] = ()) -> bytes:
        environment = {**os.environ, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
        command = ["git", "-C", str(self._folder), *_CALM, *words]
        try:
            done = subprocess.run(command, capture_output=True, env=environment, timeout=SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise RefusedError(f"git cannot be asked: {error}", code=NOT_COMPUTED) from error
        if done.returncode and done.returncode not in wrong:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise RefusedError(
                f"git {words[0]} failed: {said[-1] if said else 'without a word'}", code=NOT_COMPUTED
            )
        if len(done.stdout) > MAX_BYTES:
            raise RefusedError(
                f"the commits have more than {MAX_BYTES} bytes: name a later base", code=NOT_COMPUTED
            )
        return done.stdout


def _signed(grade: str, key: str, said: str) -> Signed:
    # SHA256: is of SSH; a keyring of others says nothing of our people.
    good = grade == "G" and key.startswith("SHA256:")
    return Signed(key, presence="-SK key" in said) if good else Signed("", presence=False)
