"""Surrogates as models of the tracking store."""

from __future__ import annotations

import os
from pathlib import Path

from ups.tracking.store import TrackingError, connect, database_file, store, without_password


def download_bundle(uri: str, folder: Path, address: str | None = None) -> Path:
    """Download a surrogate from the store.

    Args:
        uri: `models:/<name>@<alias>`, `models:/<name>/<version>` or `runs:/<run id>/<path>`: a surrogate logged as a
            model, or a bundle among a run's artifacts.
        folder: existing; where it goes.
        address: the tracking store, as for `log`.

    Returns:
        The bundle's folder, inside `folder`. Nothing in it has been checked.

    Raises:
        TrackingError: if MLflow is not installed, the store cannot be reached, or has no surrogate there.
    """
    address = address or store()
    path = database_file(address)
    if path is not None and not path.is_file():
        raise TrackingError(
            f"{uri} cannot be looked up: there is no tracking store {address}. Go to the project's folder, or set "
            "MLFLOW_TRACKING_URI."
        )
    registry = os.environ.get("MLFLOW_REGISTRY_URI") or address
    try:
        connect(address)
    except ImportError:
        raise TrackingError(
            f"{uri} is kept by MLflow, which is not installed: `pip install mlflow` or `pip install "
            "'ups-pipeline[pipeline]'`. A bundle's folder loads without it."
        ) from None
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        place = Path(
            mlflow.artifacts.download_artifacts(
                artifact_uri=uri, dst_path=str(folder), tracking_uri=address, registry_uri=registry
            )
        )
        if not (place / "MLmodel").is_file():
            return place
        flavor = mlflow.models.Model.load(str(place)).flavors.get("python_function", {})
    except (MlflowException, OSError) as error:
        reason = without_password(" ".join(str(error).split())[:400])
        raise TrackingError(f"{uri} could not be had from {without_password(address)}: {reason}") from error
    data = str(flavor.get("data", ""))
    bundle = place / data
    if flavor.get("loader_module") != "ups.serving" or not bundle.resolve().is_relative_to(place.resolve()):
        raise TrackingError(f"{uri} is an MLflow model, but not a surrogate of this project.")
    return bundle
