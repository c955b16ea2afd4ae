"""The live display of a run on a terminal: two lines at the bottom, everything else above them."""

import time
from typing import TextIO

from rich.console import Console as RichConsole
from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from demo_bert.report.console import Status

_SHORTEST_REFRESH_S = 0.1
_GAP = 3


class TerminalView:
    """Shows a bar with its figures, and lines that stay above it.

    Args:
        stream: A terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self._console = RichConsole(file=stream, highlight=False)
        self._live: Live | None = None
        self._status = Status(label="", step=0, total_steps=0)
        self._beside: tuple[str, int, int] | None = None
        self._drawn_s = 0.0

    def line(self, line: str, *, is_warning: bool) -> None:
        """Shows a line above the display.

        Args:
            line: Its text; a terminal wraps what is too long.
            is_warning: Whether it asks for attention.
        """
        self._beside = None
        if self._live is not None:
            self._live.update(self._picture())  # the print below draws it
        self._console.print(Text(line, style="yellow" if is_warning else ""), soft_wrap=True)

    def status(self, status: Status) -> None:
        """Shows where training stands.

        Args:
            status: Replaces the last one.
        """
        self._beside = None
        self._status = status
        self._draw()

    def progress(self, label: str, *, done: int, total: int) -> None:
        """Shows how far something beside training is.

        Args:
            label: What is going on.
            done: How much of it is done.
            total: How much there is.
        """
        self._beside = (label, done, total)
        self._draw()

    def close(self) -> None:
        """Takes the display away; lines that were shown stay."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _draw(self) -> None:
        now_s = time.monotonic()
        if self._live is None:
            # Standard output stays untouched: it may be a file with the answers.
            self._live = Live(
                console=self._console, auto_refresh=False, transient=True, redirect_stdout=False
            )
            self._live.start()
            self._console.show_cursor(True)  # also a killed run leaves a usable terminal
        elif now_s - self._drawn_s < _SHORTEST_REFRESH_S:
            return
        self._drawn_s = now_s
        self._live.update(self._picture(), refresh=True)

    def _picture(self) -> Group:
        status = self._status
        lines: list[Table | Text] = []
        if status.total_steps:
            lines.append(_bar(status.label, done=status.step, total=status.total_steps))
        if self._beside is not None:
            label, done, total = self._beside
            lines.append(_bar(label, done=done, total=total))
        else:
            figures = (" " * _GAP).join(_fitting(status.figures(), self._console.width - 1))
            lines.append(Text(figures, style="dim", no_wrap=True, overflow="ellipsis"))
        return Group(*lines)


def _bar(label: str, *, done: int, total: int) -> Table:
    grid = Table.grid(expand=True, padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(ratio=1)
    grid.add_column(no_wrap=True, justify="right")
    share = 100 * done // max(total, 1)
    grid.add_row(
        Text(label),
        ProgressBar(total=max(total, 1), completed=min(done, total), finished_style="bar.complete"),
        Text(f"{done:,}/{total:,}  {share:>3} %"),
    )
    return grid


def _fitting(figures: list[str], width: int) -> list[str]:
    """The figures that fit: the learning rate goes first, then the throughput; time left stays."""
    kept = list(figures)
    for dispensable in ("lr ", " examples/s", "loss "):
        if sum(map(len, kept)) + _GAP * (len(kept) - 1) <= width:
            break
        kept = [figure for figure in kept if dispensable not in figure]
    return kept
