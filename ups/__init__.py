"""Multi-stage neural surrogates of PDEs, and the pipeline that trains, compares and reproduces them.

surrogate = ups.load("artifacts/evaluate/surrogate")
for state in surrogate.rollout(surrogate.state(u, viscosity=0.01), steps=40): ...
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from ups.library.emulator import Emulator


def load(source: str | Path, *, device: torch.device | str = "cpu", extrapolate: bool = False) -> Emulator:
    """Load a trained surrogate.

    Args:
        source: a bundle's folder, such as `artifacts/evaluate/surrogate`, or where MLflow has one:
            `models:/burgers1d@champion`, `runs:/<run id>/surrogate`.
        device: where the networks go.
        extrapolate: let coefficients and values far outside the training range through.

    Returns:
        The surrogate in evaluation mode.

    Raises:
        ArtifactError: if it is no bundle of this version, or was altered.
        TrackingError: if MLflow is not installed, cannot be reached, or has no such model.
    """
    # Imported here, so that `import ups` stays light: torch takes a second.
    import tempfile
    from pathlib import Path

    from ups.library.emulator import load_folder

    if not str(source).startswith(("models:/", "runs:/")):
        return load_folder(Path(source), device=device, extrapolate=extrapolate)
    from ups import tracking

    # The folder lives as long as the emulator: `Surrogate.save` copies from it.
    place = tempfile.TemporaryDirectory(prefix="ups-")
    folder = tracking.download_bundle(str(source), Path(place.name))
    return load_folder(folder, device=device, extrapolate=extrapolate, origin=str(source), keep=place)
