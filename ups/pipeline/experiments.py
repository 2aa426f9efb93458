"""DVC's table of experiments with the columns one can read: `dvc exp show` has thousands, every metric and file one."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ups.errors import UpsError
from ups.parameters.schema import Parameters
from ups.pipeline.execute import dvc_command, environment
from ups.pipeline.snapshot import git

# model.protocol.metric of evaluate and evaluate_ttc: what a user gets, the learned baseline, the search.
METRICS = tuple(f"{model}.pdebench.nrmse" for model in ("assembled", "fno", "search"))
_OWN = ("Experiment", "Created", "State")


def kept(metrics: Sequence[str] = METRICS) -> str:
    """Return the regular expression of the metrics shown; a name that several files have comes with its file first."""
    return rf"^(\S+\.json:)?({'|'.join(map(re.escape, metrics))})$"


def dropped() -> str:
    """Return the regular expression of the columns that are left out: all but DVC's own and the parameters."""
    sections = "|".join(re.escape(name) for name in Parameters.model_fields)
    return rf"^(?!({'|'.join(_OWN)})$|(\S+\.yaml:)?({sections})($|\.))"


def show(metrics: Sequence[str] = METRICS, everything: bool = False, arguments: Sequence[str] = ()) -> None:
    """Print the table.

    Args:
        metrics: as `dvc metrics show` names them.
        everything: also parameters that are equal in all experiments.
        arguments: further ones for `dvc exp show`.

    Raises:
        UpsError: without a git commit, or if DVC fails; it has printed why.
    """
    try:
        git(Path.cwd(), "rev-parse", "--verify", "HEAD")
    except UpsError:
        raise UpsError(
            "DVC keeps experiments as git commits, and there is none here yet: `git init` where it is missing, then "
            "`git add -A` and `git commit`."
        ) from None
    changed = [] if everything else ["--only-changed"]
    command = dvc_command(
        "exp", "show", "--no-pager", *changed, "--drop", dropped(), "--keep", kept(metrics), *arguments
    )
    if subprocess.run(command, env=environment(), check=False).returncode:
        raise UpsError("`dvc exp show` failed, see above.")
