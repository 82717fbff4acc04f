"""Real git repositories: commits of any author and message, and people who sign theirs with SSH keys.
The fixtures of `clone_fixtures.py` put a test into one.
"""

import os
import subprocess
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from conftest import require_program

Canary = Callable[..., tuple[int, str, str]]

DANA, LEE = "Dana Doe <dana@example.com>", "Lee Low <lee@example.com>"


class Clone:
    """A repository in a folder; its first commit is tagged v1."""

    def __init__(self, folder: Path) -> None:
        require_program("git")
        self.folder = folder
        folder.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit("First")
        self.git("tag", "v1")

    def git(self, *words: str, given: bytes = b"", env: Mapping[str, str] | None = None) -> str:
        clean = {name: text for name, text in os.environ.items() if not name.startswith("GIT_")}
        nobody = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", **person("COMMITTER", DANA)}
        done = subprocess.run(
            ["git", *words],
            cwd=self.folder,
            input=given,
            capture_output=True,
            check=True,
            env={**clean, **nobody, **person("AUTHOR", DANA), **(env or {})},
        )
        return done.stdout.decode().strip()

    def commit(self, message: str, author: str = DANA, key: Path | None = None) -> str:
        """Commit nothing with exactly this message, and return the commit."""
        signing = ["-c", "gpg.format=ssh", "-c", f"user.signingkey={key}"] if key else []
        options = ["--allow-empty", "--allow-empty-message", "--quiet", "--cleanup=verbatim", "--file=-"]
        sign = ["--gpg-sign"] if key else ["--no-gpg-sign"]
        self.git(*signing, "commit", *sign, *options, given=message.encode(), env=person("AUTHOR", author))
        return self.git("rev-parse", "HEAD")

    def commit_all(self, commits: Iterable[tuple[str, str]]) -> None:
        """Commit many (author, message) at once."""
        stream, parent = b"", b"from refs/heads/main^0\n"
        for author, message in commits:
            text = message.encode()
            head = f"commit refs/heads/main\nauthor {author} 1 +0000\ncommitter {DANA} 1 +0000\ndata {len(text)}\n"
            stream += head.encode() + text + b"\n" + parent
            parent = b""
        self.git("fast-import", "--quiet", given=stream)


def person(role: str, name: str) -> dict[str, str]:
    """Return the environment in which git takes this person for the author or the committer."""
    who, _, rest = name.partition("<")
    return {f"GIT_{role}_NAME": who.strip(), f"GIT_{role}_EMAIL": rest.partition(">")[0]}


def new_key(path: Path) -> Path:
    """Make an SSH key; its public half lies beside it."""
    ssh_keygen = require_program("ssh-keygen")
    subprocess.run([ssh_keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


def allowed_signers(path: Path, people: Mapping[str, Path]) -> Path:
    """Write the file of those whose signatures count: mail -> key."""
    keys = {mail: key.with_suffix(".pub").read_text().split()[:2] for mail, key in people.items()}
    path.write_text("".join(f'{mail} namespaces="git" {" ".join(key)}\n' for mail, key in keys.items()))
    return path
