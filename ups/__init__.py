"""Multi-stage neural surrogates of PDEs, and the pipeline that trains, compares and reproduces them.

surrogate = ups.load("artifacts/evaluate/surrogate")
for state in surrogate.rollout(initial, coefficients, steps=100): ...
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from ups.inference.surrogate import Surrogate


def load(path: str | Path) -> Surrogate:
    """Load a trained surrogate from a folder written by `evaluate` or `Surrogate.save`.

    Args:
        path: the bundle, such as `artifacts/evaluate/surrogate`.

    Returns:
        The surrogate on the CPU, in evaluation mode.

    Raises:
        ArtifactError: if the folder is no surrogate bundle of this version.
    """
    # Imported here, so that `import ups` stays light: torch takes a second.
    from pathlib import Path

    from ups.inference.surrogate import load_bundle

    return load_bundle(Path(path))
