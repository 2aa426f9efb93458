"""Errors a user can mend. They are printed as one paragraph and end a process with exit code 1."""


class UpsError(Exception):
    """Something outside the code is wrong; the message names it, its value, what was expected and what to do."""


class ParameterError(UpsError):
    """A parameter is unknown, ill-typed or impossible in combination with another."""


class DataError(UpsError):
    """A data file is missing, truncated, foreign, or holds values that cannot be trained on."""


class ArtifactError(UpsError):
    """An artifact of an earlier stage is missing, altered, or belongs to other inputs."""


class TrainingError(UpsError):
    """Training cannot go on: non-finite loss, too many exploding updates, a loss term without gradient."""


class InputError(UpsError, ValueError):
    """A surrogate was asked for something that it was not trained for, or given fields that it cannot read."""
