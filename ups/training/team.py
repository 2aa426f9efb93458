"""Several processes that train one model: each computes the gradient of its part of every batch, all step alike.

On one machine the training starts the others itself (`compute.processes`); across machines `torchrun` does. The members
see the same random numbers for which samples an update takes, and each its own for what is drawn per sample.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ups.errors import TrainingError

T = TypeVar("T")

_RANK, _SIZE = "RANK", "WORLD_SIZE"  # as torchrun sets them
_RENDEZVOUS = "UPS_TEAM_RENDEZVOUS"
_GOODBYE = 30.0  # seconds after the last update within which a member has to end
_LOOPBACK = {"linux": "lo", "darwin": "lo0"}


@dataclass(frozen=True)
class Team:
    """This process among those that share a training.

    Attributes:
        rank: its number; 0 leads: it validates and writes.
        size: number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def seed(self, seed: int) -> int:
        """Return this member's seed for what is drawn per sample; the leader's is that of a training alone."""
        return seed + (self.rank << 32)

    def parts(self, indices: Tensor, micro_batches: int) -> list[Tensor]:
        """Return the micro-batches of an update that this member computes, fewer where samples do not go round."""
        if self.size == 1:
            return list(indices.chunk(micro_batches))
        return [part for part in indices.tensor_split(micro_batches * self.size)[self.rank :: self.size] if len(part)]

    def add_gradients(self, model: nn.Module) -> None:
        """Replace every gradient by its sum over the team."""
        if self.size == 1:
            return
        trained = [p for p in model.parameters() if p.requires_grad]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        with self._together():
            dist.all_reduce(flat)
        for parameter, total in zip(trained, flat.split([p.numel() for p in trained]), strict=True):
            parameter.grad = total.view_as(parameter)

    def gather(self, value: T) -> list[T]:
        """Return the value of every member, the leader's first."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        with self._together():
            dist.all_gather_object(found, value)
        return found

    @contextlib.contextmanager
    def _together(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise TrainingError(
                f"process {self.rank} of {self.size} lost the others, one of which ended: its own message is above "
                f"({str(error).splitlines()[0][:120]}). Mend that, or set compute.processes: 1."
            ) from error


ALONE = Team()


@contextlib.contextmanager
def assembled(processes: int, device: torch.device, command: Sequence[str]) -> Iterator[Team]:
    """Yield this process's place in a team; the leader starts the others, and stops them when it is left.

    Args:
        processes: size of the team, unless `torchrun` has made one.
        device: of the tensors that are added up: the CPU's are by gloo, CUDA's by NCCL.
        command: starts the same training in another process.

    Raises:
        TrainingError: if the team does not come together.
    """
    backend = "nccl" if device.type == "cuda" else "gloo"
    if _RANK in os.environ:  # started by torchrun, or by a leader below
        place = {"init_method": os.environ.get(_RENDEZVOUS, "env://")}
        with _group(backend, {**place, "rank": int(os.environ[_RANK]), "world_size": int(os.environ[_SIZE])}):
            yield Team(dist.get_rank(), dist.get_world_size())
    elif processes == 1:
        yield Team()
    else:
        with tempfile.TemporaryDirectory(prefix="ups-team-") as folder:
            meeting = f"file://{folder}/store"  # no port to be taken by somebody else
            if loopback := _LOOPBACK.get(sys.platform):  # and no name of this machine to resolve
                os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
            with (
                _started(command, meeting, processes),
                _group(backend, {"init_method": meeting, "rank": 0, "world_size": processes}),
            ):
                yield Team(0, processes)


@contextlib.contextmanager
def _started(command: Sequence[str], meeting: str, processes: int) -> Iterator[None]:
    """Run `command` as members 1 and up; none of them outlives the block."""
    place = {_RENDEZVOUS: meeting, _SIZE: str(processes)}
    others = [
        subprocess.Popen(
            list(command),
            env={**os.environ, **place, _RANK: str(rank), "LOCAL_RANK": str(rank)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        for rank in range(1, processes)
    ]
    try:
        yield
        for other in others:
            other.wait(timeout=_GOODBYE)
    finally:
        for other in others:
            if other.poll() is None:
                other.kill()
            other.wait()


@contextlib.contextmanager
def _group(backend: str, place: Mapping[str, Any]) -> Iterator[None]:
    try:
        dist.init_process_group(backend, **place)
    except (RuntimeError, ValueError) as error:
        raise TrainingError(
            f"the processes of compute.processes did not find each other ({str(error).splitlines()[0][:200]}). "
            "If one of them ended, its message is above; else set compute.processes: 1."
        ) from error
    try:
        yield
    finally:
        dist.destroy_process_group()
