"""Where and in which precision a computation runs."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ups.errors import ParameterError
from ups.parameters.shared import Compute
from ups.training.memory import keep_freed_memory


@dataclass(frozen=True)
class Machine:
    """A device and how to use it.

    Attributes:
        device: where tensors live.
        precision: "fp32", or "bf16" for mixed precision by autocast (weights and losses stay float32).
        compile: whether training steps go through `torch.compile`.
        processes: how many share a training.
    """

    device: torch.device
    precision: str = "fp32"
    compile: bool = False
    processes: int = 1

    @classmethod
    def from_parameters(cls, compute: Compute) -> Machine:
        """Set up the process for `compute` and return the machine.

        Raises:
            ParameterError: if CUDA is asked for and there is none.
        """
        available = torch.cuda.is_available()
        if compute.device == "cuda" and not available:
            raise ParameterError(
                "compute.device = 'cuda', but torch finds no CUDA device. Use compute.device: auto or cpu."
            )
        if compute.num_threads is not None:
            torch.set_num_threads(compute.num_threads)
        elif compute.processes > 1:
            torch.set_num_threads(max(1, torch.get_num_threads() // compute.processes))
        if compute.deterministic:
            # cuBLAS needs this set before its first call to be deterministic; it is ignored on the CPU.
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(compute.deterministic)
        keep_freed_memory()
        use_cuda = available and compute.device != "cpu"
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if use_cuda else torch.device("cpu")
        if use_cuda:
            torch.cuda.set_device(device)  # what is made without naming a device comes here too
        return cls(device, compute.precision, compute.compile, compute.processes)

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.precision == "bf16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return contextlib.nullcontext()

    def prepare(self, model: nn.Module) -> None:
        """Compile what training calls of `model`, in place: `forward`, or the methods it names in `COMPILED`."""
        if self.compile:
            for name in getattr(model, "COMPILED", ("forward",)):
                setattr(model, name, torch.compile(getattr(model, name)))
