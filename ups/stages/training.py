"""What the training stages share around the loop: resuming, weights, and the summary of a training."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from ups.evaluation.overfitting_alarm import gap_in_words, overfitting
from ups.models.weights import count_parameters, save_model
from ups.parameters.section import Optimization, Section
from ups.training.checkpoint import Checkpoint, fingerprint
from ups.training.history import History
from ups.training.loop import LossFunction, Trained, Validation, train
from ups.training.machine import Machine
from ups.training.monitors import SKIP_NORM, WARN_NORM
from ups.training.team import assembled

M = TypeVar("M", bound=nn.Module)


class Execution:
    """One execution of a training stage: what makes it unique and where it writes.

    Args:
        stage: name of the stage.
        params: its parameters, with a `seed`.
        inputs: the files it reads; their content is part of the execution's fingerprint.
        outputs: folder it writes into.
        machine: where it runs.
    """

    def __init__(self, stage: str, params: Section, inputs: dict[str, Path], outputs: Path, machine: Machine) -> None:
        self.stage, self.outputs, self.machine = stage, outputs, machine
        self.seed: int = params.seed  # type: ignore[attr-defined]
        self.fingerprint = fingerprint(stage, params, inputs.values())
        self.checkpoint = Checkpoint(stage, self.fingerprint)

    def train(
        self, model: M, loss: LossFunction, validate: Validation, num_samples: int, optimization: Optimization
    ) -> Trained[M]:
        """Run the training loop, going on from this execution's last epoch if it was interrupted.

        A process that only helped another one ends here.
        """
        command = [sys.executable, "-m", f"ups.stages.{self.stage}"]
        with assembled(self.machine.processes, self.machine.device, command) as team:
            trained = train(
                model.to(self.machine.device),
                loss,
                validate,
                num_samples,
                optimization,
                seed=self.seed,
                machine=self.machine,
                history=History(self.outputs / "history.csv"),
                checkpoint=self.checkpoint,
                label=self.stage,
                team=team,
            )
        if not team.leads:
            sys.exit()
        return trained

    def finish(self, trained: Trained[M], arguments: dict[str, Any]) -> dict[str, Any]:
        """Write the weights, drop the checkpoint and return the metrics every training reports."""
        save_model(self.outputs, trained.model, arguments, self.fingerprint)
        self.checkpoint.delete()
        last = trained.history.rows[-1]
        gradients = _gradients(trained.history, trained.updates)
        state = overfitting(trained.history.column("train_loss"), trained.history.column("val_loss"))
        alarms = [*_exploding(gradients), gap_in_words(state)]
        return {
            "status": "trained",
            "train_loss": last["train_loss"],
            "val_loss": last["val_loss"],
            "parameters": count_parameters(trained.model),
            "updates": trained.updates,
            "skipped_updates": gradients["skipped"],
            "gradients": gradients,
            "overfitting": state,
            "alarms": [alarm for alarm in alarms if alarm is not None],
        }


def _gradients(history: History, updates: int) -> dict[str, float]:
    """Return the norms before clipping of a whole training: the median of the epochs' medians, the largest, counts."""
    return {
        # A training resumed from before there were medians has the mean of its first epochs.
        "median": statistics.median(row.get("grad_norm_median", row["grad_norm_mean"]) for row in history.rows),
        "largest": max(history.column("grad_norm_max")),
        "large": sum(history.column("large_gradients")),
        "skipped": sum(history.column("skipped_updates")),
        "updates": updates,
    }


def _exploding(gradients: dict[str, float]) -> list[str]:
    if not gradients["large"]:
        return []
    said = f"gradient norm above {WARN_NORM:g} in {gradients['large']:g} of {gradients['updates']:g} updates"
    skipped = f"; {gradients['skipped']:g} above {SKIP_NORM:g} skipped" if gradients["skipped"] else ""
    return [f"GRADIENTS: {said}{skipped}, largest {gradients['largest']:.3g}."]
