"""Settings: one table of options, read from flags, environment and file, and told where from.

The order of precedence is flag, environment, settings file, recipe. The standard library alone.

    option, training_options, run_options, command_options,
    prepare_options, table                                           the table
    argv, layers, checks, resolution                                 from the command line to values
    typed                                                            the settings of each command
    origin, opening, environment, recorded, help                     what is told and kept of them
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from demo_bert.settings.argv import flags_of as flags_of
    from demo_bert.settings.opening import opening_table as opening_table
    from demo_bert.settings.origin import Origin as Origin
    from demo_bert.settings.origin import redact as redact
    from demo_bert.settings.recorded import as_records as as_records
    from demo_bert.settings.recorded import changes as changes
    from demo_bert.settings.recorded import default_output_dir as default_output_dir
    from demo_bert.settings.recorded import differences as differences
    from demo_bert.settings.recorded import is_longer as is_longer
    from demo_bert.settings.recorded import read_recorded as read_recorded
    from demo_bert.settings.recorded import result_settings_digest as result_settings_digest
    from demo_bert.settings.resolution import resolve as resolve
    from demo_bert.settings.resolution import with_defaults as with_defaults
    from demo_bert.settings.typed import BenchSettings as BenchSettings
    from demo_bert.settings.typed import DoctorSettings as DoctorSettings
    from demo_bert.settings.typed import EvaluateSettings as EvaluateSettings
    from demo_bert.settings.typed import PredictSettings as PredictSettings
    from demo_bert.settings.typed import PrepareSettings as PrepareSettings
    from demo_bert.settings.typed import ReportSettings as ReportSettings
    from demo_bert.settings.typed import TrainingSettings as TrainingSettings

# What commands use. The modules are imported when they are asked for: each help and each usage
# error passes through this file, and must answer in a blink.
PUBLIC = {
    "BenchSettings": "typed",
    "DoctorSettings": "typed",
    "EvaluateSettings": "typed",
    "Origin": "origin",
    "PredictSettings": "typed",
    "PrepareSettings": "typed",
    "ReportSettings": "typed",
    "TrainingSettings": "typed",
    "as_records": "recorded",
    "changes": "recorded",
    "default_output_dir": "recorded",
    "differences": "recorded",
    "flags_of": "argv",
    "is_longer": "recorded",
    "opening_table": "opening",
    "read_recorded": "recorded",
    "redact": "origin",
    "resolve": "resolution",
    "result_settings_digest": "recorded",
    "with_defaults": "resolution",
}


def __getattr__(name: str) -> Any:
    if name not in PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{PUBLIC[name]}"), name)
