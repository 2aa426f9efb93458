"""Files in The Well's layout for tests, with everything that its specification (docs/data_format.md) asks for."""

from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np

GROUPS = ("t0_fields", "t1_fields", "t2_fields")


def write_well(
    path: Path,
    fields: Mapping[str, np.ndarray],
    space: Mapping[str, np.ndarray],
    times: np.ndarray,
    scalars: Mapping[str, float] | None = None,
    boundary: str = "PERIODIC",
    name: str = "a_dataset",
) -> Path:
    """Write fields (N, T, *space) or, with further axes of length D, vectors and matrices."""
    rank = len(space)
    samples = next(iter(fields.values())).shape[0]
    with h5py.File(path, "w") as file:
        file.attrs["dataset_name"], file.attrs["grid_type"] = name, "cartesian"
        file.attrs["n_spatial_dims"], file.attrs["n_trajectories"] = rank, samples
        file.attrs["simulation_parameters"] = list(scalars or {}) or np.zeros(0)
        for key, value in (scalars or {}).items():
            file.attrs[key] = value
        dimensions = file.create_group("dimensions")
        dimensions.attrs["spatial_dims"] = list(space)
        for key, values in {"time": times, **space}.items():
            dimensions[key] = values.astype(np.float32)
            dimensions[key].attrs["sample_varying"] = False
            dimensions[key].attrs["time_varying"] = key == "time"
        boundaries = file.create_group("boundary_conditions")
        for axis, values in space.items():
            group = boundaries.create_group(f"{axis}_{boundary.lower()}")
            group.attrs["associated_dims"], group.attrs["bc_type"] = [axis], boundary
            group.attrs["associated_fields"] = np.zeros(0)
            group.attrs["sample_varying"] = group.attrs["time_varying"] = False
            mask = np.zeros(len(values), bool)
            mask[[0, -1]] = True
            group["mask"] = mask
        numbers = file.create_group("scalars")
        numbers.attrs["field_names"] = list(scalars or {}) or np.zeros(0)
        for key, value in (scalars or {}).items():
            numbers[key] = np.array([value], np.float32)
            numbers[key].attrs["sample_varying"] = numbers[key].attrs["time_varying"] = False
        for order, group_name in enumerate(GROUPS):
            group = file.create_group(group_name)
            own = {key: values for key, values in fields.items() if values.ndim == 2 + rank + order}
            group.attrs["field_names"] = list(own) or np.zeros(0)
            for key, values in own.items():
                group[key] = values.astype(np.float32)
                group[key].attrs["dim_varying"] = [True] * rank
                group[key].attrs["sample_varying"] = group[key].attrs["time_varying"] = True
    return path
