"""The one training loop. All trained stages call it with a loss function and a validation function."""

from __future__ import annotations

import copy
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ups.errors import TrainingError
from ups.parameters.section import Optimization
from ups.training.checkpoint import Checkpoint
from ups.training.clipping import clip_gradients
from ups.training.ema import EMA
from ups.training.history import History
from ups.training.losses import TermMeans, Terms, total
from ups.training.machine import Machine
from ups.training.monitors import WARN_NORM, GradientMonitor, check_gradients_exist
from ups.training.optimizer import Optimizer
from ups.training.sampling import Shuffle, noise_generator
from ups.training.schedule import learning_rate
from ups.training.team import ALONE, Team

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Progress:
    """Where a training stands.

    Attributes:
        update: number of updates done.
        epoch: number of epochs done.
        total: number of updates of the whole training.
    """

    update: int
    epoch: int
    total: int

    @property
    def fraction(self) -> float:
        return self.update / self.total


# (model, sample indices, progress, generator) -> loss terms
LossFunction = Callable[[Any, Tensor, Progress, torch.Generator], Terms]
# model with averaged weights -> numbers for the epoch's row; must contain "train_loss" and "val_loss"
Validation = Callable[[Any], dict[str, float]]


@dataclass(frozen=True)
class Trained(Generic[M]):
    """A finished training: the averaged model in evaluation mode, its history, and what it cost."""

    model: M
    history: History
    updates: int
    seconds: float


def train(
    model: M,
    loss: LossFunction,
    validate: Validation,
    num_samples: int,
    optimization: Optimization,
    *,
    seed: int,
    machine: Machine,
    history: History,
    checkpoint: Checkpoint,
    label: str,
    team: Team = ALONE,
) -> Trained[M]:
    """Train `model` and return its moving average.

    Args:
        model: on the machine's device.
        loss: terms of the loss on a micro-batch of sample indices; weights are applied here.
        validate: called after each epoch with the averaged model in evaluation mode.
        num_samples: number of training samples the indices refer to.
        optimization: lengths, learning rate, clipping, averaging.
        seed: everything random follows from it and the update number: resumed training equals uninterrupted training.
        history, checkpoint: where each epoch is logged and kept.
        label: shown in front of each line.
        team: the processes that share the work; only its leader validates, logs and keeps checkpoints, so what other
            members return has no history.

    Raises:
        TrainingError: on a non-finite loss, too many exploding updates, a term without gradient, or a lost member.
    """
    per_epoch = optimization.updates_per_epoch or math.ceil(num_samples / optimization.pairs_per_update)
    updates = optimization.epochs * per_epoch
    shuffle = Shuffle(num_samples, optimization.pairs_per_update, seed)
    optimizer = Optimizer(model, optimization)
    ema = EMA(model, optimization.ema_decay)
    averaged = copy.deepcopy(model)
    monitor, means = GradientMonitor(optimization.max_skipped_updates), TermMeans()
    machine.prepare(model)
    checked: set[str] = set()
    start, seconds = _resume(checkpoint, model, optimizer, ema, history)
    bar = tqdm(
        total=updates,
        initial=start * per_epoch,
        desc=label,
        disable=not (team.leads and sys.stderr.isatty()),
        leave=False,
    )

    for epoch in range(start, optimization.epochs):
        model.train()
        began = time.perf_counter()
        for update in range(epoch * per_epoch, (epoch + 1) * per_epoch):
            torch.manual_seed(team.seed(seed) + update)  # dropout draws from the global stream
            generator = noise_generator(team.seed(seed), update, machine.device)
            progress = Progress(update, epoch, updates)
            rate = learning_rate(update, updates, optimization)
            optimizer.zero_grad()
            for indices in team.parts(shuffle.indices(update).to(machine.device), optimization.micro_batches):
                with machine.autocast():
                    terms = loss(model, indices, progress, generator)
                    value = total(terms)
                _check(label, progress, terms, value, model, checked)
                share = len(indices) / optimization.pairs_per_update
                (value * share).backward()
                means.add(terms, share)
            team.add_gradients(model)
            norm = clip_gradients(model, optimization)
            if monitor.accepts(norm):
                optimizer.step(rate)
                ema.update(model)
            bar.update()
        losses = means.flush(team.gather)
        if not team.leads:
            continue
        ema.copy_to(averaged, model)
        with torch.no_grad():
            results = validate(averaged.eval())
        seconds += time.perf_counter() - began
        row = {"epoch": epoch + 1, "updates": (epoch + 1) * per_epoch, "learning_rate": rate, **losses}
        history.append({**row, **results, **monitor.flush(), "seconds": round(seconds, 3)})
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "ema": ema.state_dict()}
        checkpoint.save({"epoch": epoch + 1, "seconds": seconds, "history": history.rows, **state})
        bar.write(_line(label, history.rows[-1], optimization.epochs), file=sys.stderr)
    bar.close()
    ema.copy_to(averaged, model)
    return Trained(averaged.eval().requires_grad_(False), history, updates, seconds)


def _line(label: str, row: dict[str, float], epochs: int) -> str:
    losses = ", ".join(f"{name} {row[name]:.3e}" for name in ("train_loss", "val_loss") if name in row)
    line = f"{label}: epoch {row['epoch']}/{epochs}, {losses}, {row['seconds']:.0f} s"
    if row["large_gradients"]:
        line += f"; warning: gradient norm above {WARN_NORM:g} in {row['large_gradients']} updates"
    return line


def _resume(
    checkpoint: Checkpoint, model: nn.Module, optimizer: Optimizer, ema: EMA, history: History
) -> tuple[int, float]:
    """Load the checkpoint of this very training, if there is one; return finished epochs and their seconds."""
    state = checkpoint.load()
    if state is None:
        return 0, 0.0
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    ema.load_state_dict(state["ema"])
    history.rows = state["history"]
    history.write()
    print(f"resumed after epoch {state['epoch']} from {checkpoint.path}", file=sys.stderr)
    return state["epoch"], state["seconds"]


def _check(label: str, progress: Progress, terms: Terms, value: Tensor, model: nn.Module, checked: set[str]) -> None:
    """Stop on a non-finite loss; look at the gradient of each term the first time its weight is positive."""
    if not bool(torch.isfinite(value)):
        named = ", ".join(f"{name} = {float(term.value.detach()):.3g}" for name, term in terms.items())
        raise TrainingError(
            f"{label}: the loss is not finite in epoch {progress.epoch + 1}, update {progress.update + 1} ({named}). "
            "Lower the learning rate, or look at the data with the audit of prepare_data."
        )
    fresh = {name: term for name, term in terms.items() if term.weight and name not in checked}
    if fresh:
        check_gradients_exist([(name, term.value) for name, term in fresh.items()], model)
        checked.update(fresh)
