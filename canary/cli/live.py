"""A view that keeps itself up to date: `status -w` and `list -w`.

Enters: what to watch and how to draw it. A reflector keeps the runs by list and watch; the view is drawn when something
changed and once a second for the ages. On a terminal it is redrawn in place; in a pipe each change is printed once.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from canary.cli.session import Session
from canary.clock import WallClock
from canary.core.telling.explain import Line, Tone
from canary.core.telling.stored import StoredRun
from canary.core.telling.wording import duration
from canary.kube.cache import Change
from canary.kube.resources import CANARYRUNS, Selection
from canary.kube.watch import Reflector

REDRAW_SECONDS = 1.0
QUIET_SECONDS = 330.0  # a watch that has nothing to tell is renewed by then
Draw = Callable[[Sequence[StoredRun]], "Picture"]


@dataclass(frozen=True, slots=True)
class Picture:
    """One drawing. `fixed` is what a pipe gets told about: it holds no age. `last`: nothing will change any more."""

    lines: list[Line]
    fixed: str
    last: bool = False


def follow(session: Session, namespace: str | None, draw: Draw) -> None:
    """Draw until a picture is the last one, or until Ctrl-C."""
    changed = threading.Event()

    def tell(change: Change) -> None:
        changed.set()

    reflector = Reflector(session.client, Selection(CANARYRUNS, namespace), tell, clock=WallClock())
    reflector.start()
    try:
        reflector.wait_synced(REDRAW_SECONDS)
        show = _redraw if session.terminal.live else _print
        show(session, lambda: _picture(reflector, draw), changed)
    finally:
        reflector.stop()


def _picture(reflector: Reflector, draw: Draw) -> Picture:
    picture = draw([StoredRun(raw) for raw in reflector.list()])
    silent = reflector.last_contact_age()
    if not reflector.trouble and silent < QUIET_SECONDS:
        return picture
    text = f"no word from the API server for {duration(min(silent, 86_400))}: what you see may be old"
    return Picture([*picture.lines, Line(text, Tone.CARE)], picture.fixed, picture.last)


def _print(session: Session, look: Callable[[], Picture], changed: threading.Event) -> None:
    told = ""
    while True:
        changed.clear()
        picture = look()
        if picture.fixed != told:
            told = picture.fixed
            session.terminal.lines([*picture.lines, ""])
        if picture.last:
            return
        changed.wait(REDRAW_SECONDS)


def _redraw(session: Session, look: Callable[[], Picture], changed: threading.Event) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    terminal = session.terminal
    console = Console(file=terminal.out, no_color=not terminal.colour, highlight=False)
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            changed.clear()
            picture = look()
            drawn = "\n".join(terminal.styled(line) for line in picture.lines)
            live.update(Text.from_ansi(drawn), refresh=True)
            if picture.last:
                return
            changed.wait(REDRAW_SECONDS)
