"""`pipeline`: raw text to a score; prepare, pre-train in two phases, fine-tune, evaluate, report.

    demo_bert pipeline -m tiny -t mrpc --text novels

Each stage is a command that could be typed by itself, with a directory of its own in the
pipeline's: `store/`, `pretraining/`, `finetuning/`. The same command goes on in the stage that was
stopped; what is finished is not done again.
"""

import logging
import os
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from demo_bert.clock import begin_command, command_start
from demo_bert.commands import COMMANDS
from demo_bert.commands.going_on import program, same_command
from demo_bert.commands.logs import to_standard_error
from demo_bert.commands.pipeline_stages import Stage, hand_over, stages_of
from demo_bert.errors import FailureError, StopRequested, UsageError
from demo_bert.launchers import is_worker
from demo_bert.report import wording
from demo_bert.report.console import say
from demo_bert.report.events import EventLog
from demo_bert.report.page import write_report
from demo_bert.report.summary import pipeline_lines
from demo_bert.run_directory import RunDirectory, beside
from demo_bert.settings import Origin, default_output_dir, read_recorded, with_defaults
from demo_bert.settings.typed import OtherSettings
from demo_bert.stopping import StoppedAtOnce, StopRequests

_LOG = logging.getLogger(__name__)
_COMMAND = "pipeline"
_BUDGET_S = 3600.0
_FOR_FINETUNING = 0.2
"""Share of the time after `prepare` that pre-training leaves."""
_SHORTEST_S = 1.0


def run(settings: OtherSettings, origins: Mapping[str, Origin], argv: Sequence[str]) -> int:
    """Runs what is not done yet of each stage, in order.

    Args:
        settings: As resolved.
        origins: Where each came from.
        argv: The program's arguments.

    Returns:
        The exit code, 0.

    Raises:
        DemoBertError: As the table in `errors.py` says.
    """
    try:
        with StopRequests(is_at_once=True):
            return _run_pipeline(settings, origins, argv)
    except StoppedAtOnce as stop:
        raise StopRequested(
            f"stopped by {stop} before its first stage, nothing is lost; the pipeline goes on with:"
            f" {same_command(argv)}"
        ) from None


def _run_pipeline(
    settings: OtherSettings, origins: Mapping[str, Origin], argv: Sequence[str]
) -> int:
    """Checks what can be checked before the first stage, then runs the stages."""
    settings, origins = with_defaults(settings, origins, {"task": "mrpc"}, where=_COMMAND)
    values = settings.values
    to_standard_error(str(values["log_level"]))
    if is_worker():
        raise UsageError("pipeline starts its own workers: call it once, with -v")
    if isinstance(values["resume"], int):
        raise UsageError(
            f"{origins['resume']} {values['resume']}: each stage counts its own steps; give it to"
            " the stage's command, with the stage's directory as -o"
        )
    directory = _directory(settings)
    stages = stages_of(values, origins, directory.path)
    hand_over(values, origins, os.environ)
    results = directory.results()
    if results is not None and results.get("status") == "complete":
        _LOG.info("%s: this pipeline is finished; --new makes another", directory.path)
    else:
        # Imported here, as torch comes with them: requests are heard by now.
        from demo_bert.commands import pipeline_checks as checks
        from demo_bert.commands.pipeline_results import pipeline_record

        has_text = len(stages) > 2
        if has_text and not stages[0].directory.exists():
            checks.check_prepare(stages[0])
        longest = checks.check_pretraining(stages[-2], has_text=has_text)
        trained = stages[-2].directory
        checks.check_finetuning(stages[-1], trained=trained, max_positions=longest)
        if values["dry_run"]:
            return _dry_run(stages)
        with directory.locked():
            if directory.record() is None:
                directory.write_record(pipeline_record(settings, origins, argv=argv))
            results = _run_stages(directory, stages, values=values, argv=argv)
    say(pipeline_lines(results, directory.path, program=program()))
    return 0


def _directory(settings: OtherSettings) -> RunDirectory:
    values = settings.values
    path = Path(str(values["output_dir"] or default_output_dir(_COMMAND, settings)))
    is_there = RunDirectory(path).record() is not None
    if is_there and (values["new"] or values["resume"] == "never"):
        path = beside(path)
    return RunDirectory(path)


def _dry_run(stages: Sequence[Stage]) -> int:
    """The forecast of the text, and what would run."""
    for number, stage in enumerate(stages, 1):
        _LOG.info("stage %d of %d: %s", number, len(stages), stage.line(program()))
        if stage.command == "prepare":
            _run(stage.with_flags("--dry-run"))
    return 0


def _run_stages(
    directory: RunDirectory,
    stages: Sequence[Stage],
    *,
    values: Mapping[str, Any],
    argv: Sequence[str],
) -> dict[str, Any]:
    """Runs the stages; the results say how far it came, whatever ends it.

    Returns:
        The content of results.json.
    """
    from demo_bert.commands.pipeline_results import pipeline_results

    started = command_start()
    limit_s, is_fitted = _time_limit(values, has_text=_has_text(stages))
    for number, stage in enumerate(stages, 1):
        _LOG.info("stage %d of %d: %s", number, len(stages), stage.line(program()))
    with EventLog.open(directory.events) as events:
        status = "failed"
        try:
            with StopRequests(is_at_once=True):
                for stage in stages:
                    left_s = None if limit_s is None else limit_s - (time.time() - started)
                    events.append("stage", name=stage.command, status="begun")
                    _run(_with_time(stage, left_s, is_fitted=is_fitted))
                    events.append("stage", name=stage.command, status="complete")
            status = "complete"
        except (StopRequested, StoppedAtOnce) as stop:
            status = "stopped"
            why = str(stop)
            if isinstance(stop, StoppedAtOnce):
                why = f"stopped by {stop} between the stages"
            again = same_command(argv)
            raise StopRequested(f"{why}; the whole pipeline goes on with: {again}") from None
        finally:
            events.append("end", status=status)
            results = pipeline_results(
                directory, stages, status=status, values=values, started=started
            )
            directory.write_results(results)
            write_report(directory.path)
    return results


def _has_text(stages: Sequence[Stage]) -> bool:
    """Whether there is text of the user's own, which steps are fitted to no other way."""
    return any(flag.startswith("--dataset-path=") for flag in stages[-2].flags)


def _time_limit(values: Mapping[str, Any], *, has_text: bool) -> tuple[float | None, bool]:
    """Seconds for all stages together, and whether the steps are fitted into them."""
    is_fitted = has_text and values["iters"] is None and values["epochs"] is None
    limit_s = values["max_time"].seconds if values["max_time"] else None
    if limit_s is None and is_fitted:
        limit_s = _BUDGET_S
        _LOG.info(
            "neither -i, -e nor --max-time is given: all stages together are fitted into %s on"
            " this machine",
            wording.duration(limit_s),
        )
    elif limit_s is not None and is_fitted:
        _LOG.info("all stages together are fitted into %s", wording.duration(limit_s))
    if is_fitted:
        _LOG.info(
            "of what preparing leaves of it, pre-training's steps are fitted into %.0f %% and"
            " fine-tuning has the rest; it runs its recipe whole",
            100 * (1 - _FOR_FINETUNING),
        )
    return limit_s, is_fitted


def _with_time(stage: Stage, left_s: float | None, *, is_fitted: bool) -> Stage:
    """The stage with its share of the time that is left, where there is a limit.

    With steps given it is a limit, at which the stage is stopped; else pre-training fits its steps
    into its share, once: a run that goes on keeps them. The other stages take what they need.
    """
    if left_s is None:
        return stage
    if not is_fitted:
        return stage.with_flags(f"--max-time={max(_SHORTEST_S, left_s):.0f}s")
    if stage.command != "pretraining":
        return stage
    before = (read_recorded(stage.directory) or {}).get("time_budget")
    share_s = max(_SHORTEST_S, (1 - _FOR_FINETUNING) * left_s)
    return stage.with_flags(f"--time-budget={before or f'{share_s:.0f}s'}")


def _run(stage: Stage) -> None:
    """Runs a stage's command in this process, or the workers that it starts."""
    begin_command()
    settings, origins = stage.resolved(os.environ)
    code = import_module(COMMANDS[stage.command].module).run(settings, origins, stage.argv)
    if code == StopRequested.exit_code:  # its workers have said why
        raise StopRequested(f"{stage.command}: stopped, saved")
    if code:
        raise FailureError(f"{stage.command}: ended with exit code {code}; see above")
