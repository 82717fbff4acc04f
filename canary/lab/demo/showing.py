"""What the demo shows: a live screen on a terminal, else one line for each thing that happens.

With `-o json` every word goes to stderr, so that stdout is data. `rich` is imported only for the live screen and for
`--record`.
"""

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from canary.core.telling.arithmetic import explanation
from canary.core.telling.explain import Line, Scene, Tone
from canary.core.telling.screen import status_lines
from canary.core.telling.stored import StoredRun
from canary.lab.demo.measured import Measured
from canary.lab.demo.plot import Point, curves
from canary.lab.demo.stories import Plot
from canary.settings import DemoOptions

MAX_POINTS = 600
RECORD_COLUMNS = 96
_STYLES = {Tone.SAFE: "green", Tone.CARE: "yellow", Tone.DANGER: "bold red", Tone.PLAIN: ""}


class Show:
    """One audience."""

    def __init__(self, options: DemoOptions) -> None:
        self._options = options
        self._out = sys.stderr if options.json else sys.stdout
        self._points: list[Point] = []
        self._said: list[str] = []
        self._told_after: list[str] = []
        self._told = 0
        self._last: StoredRun | None = None
        self._screen = None if options.headless or options.json or not sys.stdout.isatty() else _LiveScreen()

    def say(self, text: str, *, kept: bool = True) -> None:
        """Say one sentence; what is kept stands in the recording, too."""
        if kept:
            (self._said if self._last is None else self._told_after).append(text)
        if self._screen is not None:
            self._screen.say(text)
            return
        self._out.write(text + "\n")
        self._out.flush()

    def run(self, run: StoredRun, point: Point | None, now: datetime) -> None:
        """Show the run as it is now."""
        if point is not None and (not self._points or point.seconds > self._points[-1].seconds):
            self._points = [*self._points, point][-MAX_POINTS:]
        self._last = run
        if self._screen is not None:
            self._screen.draw(self._lines(run, now))
            return
        for happened in run.timeline[self._told :]:
            self.say(f"{happened.at:%H:%M:%S} {happened.phase}: {happened.message}", kept=False)
        self._told = len(run.timeline)

    def _lines(self, run: StoredRun, now: datetime) -> list[Line]:
        plots = [Line(text, Tone.PLAIN) for text in curves(self._points)]
        return [*status_lines(run, Scene(now)), Line("", Tone.PLAIN), *plots]

    def page(self, page: Mapping[str, Any]) -> None:
        """Show a page as the pager got it."""
        self.say("")
        self.say(f"the page that on-call got:  [{page['severity']}]")
        for text in (str(page["title"]), *str(page["body"]).splitlines()):
            self.say(f"    {text}")

    def end(self, measured: Measured, plot: Plot) -> None:
        """Say how it ended, in figures that were measured."""
        if self._last is not None and measured.outcome == "RolledBack":
            for text in ("", *explanation(self._last)):
                self.say(text, kept=False)
        self.say("")
        if measured.first_lost_at is not None and measured.decided_at is not None:
            self.say(
                f"decided {measured.decided_at - measured.first_lost_at:.1f} s after the first lost order"
            )
        if None not in (measured.written_at, measured.decided_at, measured.verified_at):
            self.say(_way_back(measured))
        rate, widest = f"{measured.orders_per_second:.0f}", f"{measured.slice_ppm / 10_000:g} %"
        self.say(f"{rate} orders a second, slice {widest}, seed {measured.seed}")
        self.say(plot.last_line.format(lost=measured.orders_lost, late=measured.late_promises))
        if self._options.record:
            before = [*self._said, ""] if self._last is not None else []
            _record(self._options.record, [*before, *self._picture(), *self._told_after])

    def _picture(self) -> list[Line]:
        """Return the last screen, as of the run's last look."""
        if self._last is None:
            return []
        seen = self._last.at("finishedAt") or self._last.at("checkedAt")
        return self._lines(self._last, seen) if seen is not None else []

    def close(self) -> None:
        """Give the terminal back."""
        if self._screen is not None:
            self._screen.close()


def _way_back(measured: Measured) -> str:
    decided, written = measured.decided_at or 0.0, measured.written_at or 0.0
    verified = (measured.verified_at or 0.0) - decided
    text = f"route written {max(0.0, written - decided):.2f} s after the decision, "
    return text + f"seen in the traffic {verified:.1f} s after it"


class _LiveScreen:
    """A picture that is redrawn in place, with sentences above it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=False)
        self._live.start()

    def say(self, text: str) -> None:
        self._console.print(text, markup=False)

    def draw(self, lines: list[Line]) -> None:
        self._live.update(_text(lines), refresh=True)

    def close(self) -> None:
        self._live.stop()


def _text(lines: list[Line]) -> Any:
    from rich.text import Text

    text = Text()
    for line in lines:
        text.append(line.text + "\n", style=_STYLES[line.tone])
    return text


def _record(path: str, lines: Sequence[Line | str]) -> None:
    """Write these lines as an SVG picture that needs nothing from the network."""
    import io
    import re

    from rich.console import Console

    console = Console(record=True, width=RECORD_COLUMNS, file=io.StringIO(), highlight=False)
    console.print(_text([line if isinstance(line, Line) else Line(line, Tone.PLAIN) for line in lines]))
    drawn = console.export_svg(title="canary demo")
    drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)
    drawn = re.sub(r"<!--.*?-->\s*", "", drawn, flags=re.DOTALL)
    Path(path).write_text(drawn, encoding="utf-8")
