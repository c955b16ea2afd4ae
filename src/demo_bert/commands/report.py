"""`report RUN...`: writes the page of a run anew, or compares several runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from demo_bert.report.comparison import PAGE_NAME, comparison_lines, write_comparison
from demo_bert.report.console import say
from demo_bert.report.page import write_report
from demo_bert.report.record import read_run
from demo_bert.settings import Origin, ReportSettings


def run(settings: ReportSettings, origins: Mapping[str, Origin], argv: Sequence[str]) -> int:
    """Writes `report.html` into a run, or `comparison.html` here with a printed table.

    Standard output has the table and the page's path.

    Args:
        settings: The runs' directories.
        origins: Where each setting came from; a page does not depend on it.
        argv: The command line; likewise.

    Returns:
        The exit code, 0.

    Raises:
        RunDirectoryError: A path is no directory, or holds nothing of a run.
        DiskError: A file cannot be read, or the page cannot be written.
    """
    directories = [Path(name) for name in settings.runs]
    if len(directories) == 1:
        say([str(write_report(directories[0]))])
        return 0
    runs = [read_run(directory) for directory in directories]
    say(comparison_lines(runs))
    say([str(write_comparison(runs, Path(PAGE_NAME)))])
    return 0
