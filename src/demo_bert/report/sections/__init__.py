"""The parts of a run's page: each is a file with one function, and a line in this table."""

from collections.abc import Callable

from demo_bert.report.markup import Section
from demo_bert.report.record import Run
from demo_bert.report.sections import (
    confusion,
    curves,
    data,
    environment,
    history,
    mistakes,
    per_seed,
    phases,
    profile,
    questions,
    scores,
    settings,
    speed,
    stages,
)

SECTIONS: tuple[Callable[[Run], Section | None], ...] = (
    stages.section,
    per_seed.section,
    scores.section,
    phases.section,
    curves.section,
    confusion.section,
    mistakes.section,
    questions.section,
    speed.section,
    profile.section,
    data.section,
    settings.section,
    environment.section,
    history.section,
)
"""In the page's order; a function gives None where a run has nothing for it."""
