"""Every error that demo_bert raises for its users, and the exit code of each.

    DemoBertError           1
      UserError             2   the user's mistake: one line, no traceback
        UsageError              command line, environment, settings file
        DataError               files with examples
        ModelError              weights, configurations, vocabularies
        RunDirectoryError       the output directory
      FailureError          1   not the user's mistake, and no bug either
        NetworkError            an index, a hub, a mirror
          UnreachableError        nobody answered (the only one that lets the sample stand in)
        DiskError               full, read-only, gone
        TrainingError           a loss or gradient that is not finite
      StopRequested        75   stopped on request, a checkpoint is saved

A message says what was given, what is allowed and what to do, in one line.
"""


class DemoBertError(Exception):
    """Base of all errors that are reported without a traceback."""

    exit_code = 1


class UserError(DemoBertError):
    """Something that the user gave is wrong."""

    exit_code = 2


class UsageError(UserError):
    """The command line, the environment or the settings file is wrong."""


class DataError(UserError):
    """A file with examples is missing, damaged or of another form."""


class ModelError(UserError):
    """Weights, a configuration or a vocabulary are missing, damaged or do not fit together."""


class RunDirectoryError(UserError):
    """The output directory cannot be used for this run."""


class FailureError(DemoBertError):
    """Something outside the program failed."""


class NetworkError(FailureError):
    """An index, a hub or a mirror answered with an error, or with other bytes than were pinned."""


class UnreachableError(NetworkError):
    """Nobody answered, or going online is forbidden."""


class DiskError(FailureError):
    """A file system is full, read-only or gone."""


class TrainingError(FailureError):
    """Training cannot go on: a loss or a gradient is not finite."""


class StopRequested(DemoBertError):
    """The run was asked to stop and has saved a checkpoint."""

    exit_code = 75
