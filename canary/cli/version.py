"""`canary version`: this program, the cluster's controller, and a warning where they are too far apart.

What the cluster does not tell is left out with a note; the version of this program is always printed.
"""

from argparse import ArgumentParser, Namespace

from canary import __version__
from canary.cli.arguments import access_of, add_access, add_output, add_switch
from canary.cli.documents import titled
from canary.cli.exits import Exit
from canary.cli.session import Session
from canary.cli.terminal import Terminal
from canary.core.telling.stored import Raw, under
from canary.core.telling.wording import duration, plain
from canary.errors import CanaryError
from canary.kube.resources import DEPLOYMENTS
from canary.kube.transport import JSON

CONTROLLER = "canary-controller"
VERSION_LABEL = "app.kubernetes.io/version"
ABSENT = "not found"


def configure(verb: str, parser: ArgumentParser) -> None:
    add_switch(parser, "--client", help="this program only; asks no cluster")
    add_output(parser, ("table", "json", "yaml"))
    add_access(parser)


def run(verb: str, given: Namespace, terminal: Terminal) -> Exit:
    cluster, controller, heard = (None, None, "") if given.client else _of_cluster(given, terminal)
    lines = [f"canary      {__version__}"]
    if not given.client:
        lines += [f"controller  {controller or heard or ABSENT}", f"cluster     {cluster or ABSENT}"]
    document = titled("version", client=__version__, controller=controller, cluster=cluster)
    terminal.show(given.output, document, lines)
    if given.output == "table" and controller and too_far_apart(__version__, controller):
        text = f"canary {__version__} and controller {controller} are more than one minor version apart"
        terminal.note(text)
    return Exit.DONE


def _of_cluster(given: Namespace, terminal: Terminal) -> tuple[str | None, str | None, str]:
    """Return the versions of cluster and controller, and a sign of life; what cannot be read is said and left out."""
    try:
        session = Session(access_of(given), terminal)
        answer = session.wire.request("GET", "/version", query={}, body=None, content_type=JSON)
        deployment = session.client.get(DEPLOYMENTS.at(session.controller_namespace, CONTROLLER))
    except CanaryError as error:
        terminal.note(str(error))
        return None, None, ""
    beat = session.heartbeat_seconds()
    heard = "" if beat is None else f"version not told, last heard of {duration(beat)} ago"
    return plain(answer.body.get("gitVersion"), 40) or None, _labelled(deployment) or None, heard


def _labelled(deployment: Raw | None) -> str:
    return plain(under(deployment, "metadata", "labels", VERSION_LABEL), 40)


def too_far_apart(one: str, other: str) -> bool:
    """Tell whether two versions are more than one minor version apart; what cannot be read is not."""
    pairs = [version.lstrip("v").split(".")[:2] for version in (one, other)]
    if not all(len(pair) == 2 and all(part.isdecimal() for part in pair) for pair in pairs):
        return False
    (major, minor), (other_major, other_minor) = ([int(part) for part in pair] for pair in pairs)
    return major != other_major or abs(minor - other_minor) > 1
