"""A surrogate as an MLflow model: the `python_function` protocol, without importing mlflow.

    mlflow models serve -m models:/burgers1d@champion --env-manager local --port 5001
    curl http://127.0.0.1:5001/invocations -H 'Content-Type: application/json' \\
        -d '{"inputs": {"u": [[[0.1, ...]]], "viscosity": [0.01]}, "params": {"steps": 40}}'

answers `{"predictions": [...]}` of shape (B, steps, C, X): the free-running forecast after the fields `u`, (B, C, X),
by the numbers that `evaluate` measures. Shapes: B fields, C channels, X grid points. Imports torch only to forecast.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import ups
from ups.errors import InputError
from ups.inference.manifest import read_manifest

FIELD, STEPS = "u", "steps"
DEFAULT_STEPS = 1
# More frames than any data set has; a request for a million would keep the server busy for hours.
MOST_STEPS = 10_000
# What running a surrogate needs; the same list as the project's own dependencies.
PACKAGES = ("torch", "numpy", "h5py", "safetensors", "pydantic")


def model_arguments(bundle: Path) -> dict[str, Any]:
    """Return what `mlflow.pyfunc.log_model` or `save_model` needs to keep a bundle as a model. Imports no torch.

    All but `signature` can be passed on as they are; `signature` is for `mlflow.models.ModelSignature.from_dict`:

        arguments = model_arguments(bundle)
        signature = ModelSignature.from_dict(arguments.pop("signature"))
        mlflow.pyfunc.log_model(name="surrogate", signature=signature, **arguments)

    Args:
        bundle: a surrogate's folder, such as `artifacts/evaluate/surrogate`.

    Raises:
        ArtifactError: if it is no bundle of this version.
    """
    manifest = read_manifest(bundle)
    fields = manifest.content["metadata"]
    channels, points, names = len(fields["channels"]), fields["grid"]["points"], fields["coefficients"]
    training = fields.get("training") or {"coefficients": [[1.0, 1.0]] * len(names), "frames": 1}
    inputs = [_tensor(FIELD, "float32", [-1, channels, *points])]
    inputs += [_tensor(name, "float64", [-1]) for name in names]
    outputs = [{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, -1, channels, *points]}}]
    params = [{"name": STEPS, "type": "long", "default": DEFAULT_STEPS, "shape": None}]
    # The mean field of the training data: every surrogate can read it, and it says nothing about them.
    mean = np.array(fields["normalization"]["mean"], dtype=np.float32).reshape(1, channels, *[1] * len(points))
    example = {FIELD: np.broadcast_to(mean, (1, channels, *points)).copy()}
    example |= {name: np.array([span[0]]) for name, span in zip(names, training["coefficients"], strict=True)}
    return {
        "loader_module": __name__,
        "data_path": str(bundle),
        "code_paths": [str(Path(ups.__file__).parent)],
        "pip_requirements": [f"{name}=={metadata.version(name).partition('+')[0]}" for name in PACKAGES],
        "input_example": (example, {STEPS: DEFAULT_STEPS}),
        "signature": {"inputs": json.dumps(inputs), "outputs": json.dumps(outputs), "params": json.dumps(params)},
        "metadata": {"checksum": manifest.checksum, "equation": fields["equation"], "dt": fields["dt"]},
    }


class Server:
    """What MLflow calls: `predict` on named tensors.

    Args:
        bundle: a surrogate's folder.
    """

    def __init__(self, bundle: Path) -> None:
        from ups.library.emulator import load_folder

        self.surrogate = load_folder(bundle)

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> npt.NDArray[np.float32]:
        """Forecast.

        Args:
            model_input: `u` (B, C, X) and every coefficient of the equation by name, (B,) or one number.
            params: `steps`, the number of time steps, 1 by default.

        Returns:
            (B, steps, C, X).

        Raises:
            InputError: if that is not what the surrogate was trained for.
        """
        names = (FIELD, *self.surrogate.metadata.coefficients)
        if not isinstance(model_input, Mapping):
            raise InputError(
                f"The input is a {type(model_input).__name__}; named tensors were expected: "
                f'{{"inputs": {{{", ".join(f"{json.dumps(name)}: ..." for name in names)}}}}}.'
            )
        given = {name: np.asarray(value) for name, value in model_input.items()}
        if set(given) != set(names):
            raise InputError(f"The input has {sorted(given)}; {sorted(names)} were expected.")
        steps = int((params or {}).get(STEPS, DEFAULT_STEPS))
        if steps > MOST_STEPS:
            raise InputError(f"steps = {steps}: at most {MOST_STEPS} are forecast in one request.")
        fields = given.pop(FIELD)
        numbers: dict[str, Any] = {
            name: value.reshape(()) if value.size == 1 else value for name, value in given.items()
        }
        states = self.surrogate.rollout(self.surrogate.state(fields, **numbers), steps)
        return np.stack([np.asarray(state.u) for state in states], axis=-3)


def _load_pyfunc(path: str) -> Server:
    """Return the object whose `predict` MLflow calls; `path` is the bundle's folder inside the model."""
    return Server(Path(path))


def _tensor(name: str, kind: str, shape: list[int]) -> dict[str, Any]:
    return {"name": name, "type": "tensor", "tensor-spec": {"dtype": kind, "shape": shape}}
