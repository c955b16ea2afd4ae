"""`report.html`: one file that shows a run, without a script and without anything to fetch."""

from importlib.resources import files as resources
from pathlib import Path

from demo_bert import __version__
from demo_bert.files import write_text
from demo_bert.report.heading import heading, title
from demo_bert.report.markup import Section, escape
from demo_bert.report.record import Run, read_run
from demo_bert.report.sections import SECTIONS

PAGE_NAME = "report.html"


def write_report(run_directory: Path, output: Path | None = None) -> Path:
    """Writes the page of a run, and of each of its seeds.

    Args:
        run_directory: A run directory; whatever is missing in it makes the page shorter.
        output: Where the page goes; None for `report.html` in the run directory.

    Returns:
        The page's path.

    Raises:
        RunDirectoryError: The path is no directory, or holds nothing of a run.
        DiskError: A file cannot be read, or the page cannot be written.
    """
    run = read_run(run_directory)
    for seed in run.seeds:
        write_text(seed.directory / PAGE_NAME, run_page(seed))
    path = output or run_directory / PAGE_NAME
    write_text(path, run_page(run))
    return path


def run_page(run: Run) -> str:
    """The page of a run.

    Args:
        run: Any run.

    Returns:
        A whole HTML file.
    """
    sections = [made for section in SECTIONS if (made := section(run)) is not None]
    again = f"demo_bert report {run.directory.name}"
    return document(title(run), heading=heading(run), sections=sections, again=again)


def document(name: str, *, heading: str, sections: list[Section], again: str) -> str:
    """A whole page.

    Args:
        name: The page's title, as plain text.
        heading: HTML above everything.
        sections: Its parts, in order.
        again: The command that makes the page anew.

    Returns:
        A whole HTML file.
    """
    style = resources("demo_bert.report").joinpath("page.css").read_text("utf-8")
    links = "".join(f'<a href="#{s.anchor()}">{escape(s.name)}</a>' for s in sections)
    parts = "".join(
        f'<section aria-labelledby="{s.anchor()}"><h2 id="{s.anchor()}">{escape(s.name)}</h2>\n'
        f"{s.body}</section>\n"
        for s in sections
    )
    navigation = f'<nav aria-label="Sections">{links}</nav>\n' if len(sections) > 1 else ""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(name)} - demo_bert</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f"<header>{heading}</header>\n{navigation}<main>\n{parts}</main>\n"
        f"<footer>Made by demo_bert {escape(__version__)}; <code>{escape(again)}</code> makes it "
        "anew.</footer>\n</body>\n</html>\n"
    )
