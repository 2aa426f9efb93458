"""PDEBench's flat HDF5 layout for one-dimensional problems, and its writer.

`tensor` (N, T, X) float32, `x-coordinate` (X,), `t-coordinate` (T,) (PDEBench's own files have T + 1), and root
attributes with the coefficients: `Nu` for Burgers, `beta` for advection, `Nu` and `rho` for diffusion-reaction. Files
written here say more in further attributes, which readers of PDEBench's files never look at.

A file of several regimes, which PDEBench does not have, says a coefficient for each trajectory: in a dataset (N,) of
the name that the attribute has otherwise. `initial-condition` (N,) numbers the first frames; trajectories with the same
number begin with the same field.

Shapes: N trajectories, T frames, X points.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ups.data.file_writer import FileWriter, Note
from ups.data.write_errors import plain_write_errors

TENSOR = "tensor"
SPACE = "x-coordinate"
TIME = "t-coordinate"
INITIAL = "initial-condition"

# One number for all trajectories, or an array (N,) with one for each.
Number = float | npt.NDArray[np.float64]

# equation -> attribute of the file -> name of the coefficient in this project
ATTRIBUTES = {
    "burgers": {"Nu": "viscosity"},
    "advection": {"beta": "velocity"},
    "diffusion_reaction": {"Nu": "diffusivity", "rho": "reaction_rate"},
}


class FlatWriter(FileWriter):
    """Write a flat file batch by batch; use it as a context manager.

    Args:
        path: the new file.
        equation: one of `ATTRIBUTES`.
        coefficients: the equation's coefficients by name, each one number or an array (N,).
        samples: number of trajectories N.
        position: (X,) cell centres.
        times: (T,) times of the frames.
        notes: further attributes, e.g. what the values are and how they were made.
        initial: (N,), number of the initial condition of each trajectory; None: each has its own.
    """

    def __init__(
        self,
        path: Path,
        equation: str,
        coefficients: Mapping[str, Number],
        samples: int,
        position: npt.ArrayLike,
        times: npt.ArrayLike,
        notes: Mapping[str, Note],
        initial: npt.NDArray[np.int64] | None = None,
    ) -> None:
        x, t = np.asarray(position, dtype=np.float64), np.asarray(times, dtype=np.float64)
        super().__init__(path, 4 * samples * len(t) * len(x))
        self.tensor = self.file.create_dataset(TENSOR, shape=(samples, len(t), len(x)), dtype=np.float32)
        self.file.create_dataset(SPACE, data=x)
        self.file.create_dataset(TIME, data=t)
        for attribute, name in ATTRIBUTES[equation].items():
            if isinstance(value := coefficients[name], np.ndarray):
                self.file.create_dataset(attribute, data=value)
            else:
                self.file.attrs[attribute] = value
        if initial is not None:
            self.file.create_dataset(INITIAL, data=initial)
        self.file.attrs.update(notes)

    def write(self, start: int, fields: npt.NDArray[np.float32]) -> None:
        """Write fields (B, T, 1, X) as the trajectories start .. start + B - 1."""
        with plain_write_errors(self.path):
            self.tensor[start : start + len(fields)] = fields[:, :, 0]
