"""PDEBench-like flat files for tests: tiny, exact advection of PDEBench's initial conditions."""

from pathlib import Path

import h5py
import numpy as np
import torch

from ups.data.advection import advect
from ups.data.initial_conditions import cell_centres, draw


def fields(samples: int, frames: int, points: int, seed: int = 0) -> np.ndarray:
    """Return (samples, frames, points) float32, waves of speed 0.5 up to t = 1."""
    times = torch.linspace(0, 1, frames, dtype=torch.float64)
    return advect(draw(seed, 0, samples), cell_centres(points), times, 0.5).float().numpy()


def write_flat(
    path: Path,
    tensor: np.ndarray,
    attributes: dict[str, float] | None = None,
    extra_time: bool = True,
    x: np.ndarray | None = None,
    t: np.ndarray | None = None,
) -> Path:
    """Write a file as PDEBench does: float32 everywhere, T + 1 times, one attribute."""
    frames, points = tensor.shape[1], tensor.shape[-1]
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.create_dataset("tensor", data=tensor)
        centres = (np.arange(points, dtype=np.float32) + np.float32(0.5)) / np.float32(points)
        file.create_dataset("x-coordinate", data=centres if x is None else x)
        times = np.arange(frames + int(extra_time), dtype=np.float32) * np.float32(1 / (frames - 1))
        file.create_dataset("t-coordinate", data=times if t is None else t)
        for name, value in ({"beta": 0.5} if attributes is None else attributes).items():
            file.attrs[name] = value
    return path
