"""Surrogates as models of the tracking store: logged by their run, registered by task, one of them the champion."""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ups.tracking.store import (
    TrackingError,
    connect,
    database_file,
    explained,
    one_writer,
    registry,
    store,
    without_password,
)

CHAMPION = "champion"
MODEL = "surrogate"  # its name among the outputs of a run


@dataclass(frozen=True)
class Registered:
    """A version of a registered model."""

    name: str
    version: str
    run_id: str


def register(run_id: str, bundle: Path, name: str, address: str | None = None) -> Registered:
    """Log a run's surrogate as a model and register it; what is registered already is not registered again.

    Args:
        run_id: of the run that made it.
        bundle: its folder.
        name: of the registered model: the task's.
        address: the tracking store.

    Raises:
        ArtifactError: if the folder holds no surrogate.
        TrackingError: if the store cannot be reached or refuses.
    """
    from ups.serving import model_arguments

    address = address or store()
    arguments = model_arguments(bundle)
    with one_writer(), explained(address):
        client = connect(address)
        for version in client.search_model_versions(f"run_id = '{run_id}'"):
            if version.name == name:
                return Registered(name, str(version.version), run_id)
        with _default_store(address, client.get_run(run_id).info.experiment_id):
            import mlflow

            signature = mlflow.models.ModelSignature.from_dict(arguments.pop("signature"))
            mlflow.models.Model.log(
                artifact_path=None,
                name=MODEL,
                flavor=mlflow.pyfunc,
                run_id=run_id,
                registered_model_name=name,
                signature=signature,
                **arguments,
            )
        version = client.search_model_versions(f"run_id = '{run_id}'")[0]
        return Registered(name, str(version.version), run_id)


@contextlib.contextmanager
def _default_store(address: str, experiment_id: str = "0") -> Iterator[None]:
    """Make a store the one that mlflow uses where it takes no address, and be quiet; both end with the block.

    mlflow keeps its default in the environment too, where processes started later would find it. A model that is logged
    for a run goes into the default experiment unless another one is named: experiment 0 may belong to a server and
    keep its files where only that server can write.
    """
    import mlflow

    names = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME")
    before = {name: os.environ.get(name) for name in names}
    os.environ.pop("MLFLOW_EXPERIMENT_NAME", None)
    os.environ["MLFLOW_EXPERIMENT_ID"] = experiment_id
    mlflow.set_tracking_uri(address)
    mlflow.set_registry_uri(registry(address))
    logger = logging.getLogger("mlflow")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it announces each step of logging a model
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
        mlflow.set_tracking_uri(None)  # type: ignore[arg-type] # which is how it is unset
        mlflow.set_registry_uri("")
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def champion(name: str, address: str | None = None) -> Registered | None:
    """Return the version with the alias `champion`; None if there is none.

    Raises:
        TrackingError: if the store cannot be reached.
    """
    address = address or store()
    with explained(address):
        client = connect(address)
        if not client.search_registered_models(f"name = '{name}'"):
            return None
        found = client.get_registered_model(name).aliases.get(CHAMPION)
        if found is None:
            return None
        version = client.get_model_version(name, found)
        return Registered(name, str(version.version), str(version.run_id))


def set_champion(chosen: Registered, reason: str, address: str | None = None) -> None:
    """Give a version the alias `champion` and keep the reason with it.

    Raises:
        TrackingError: if the store cannot be reached.
    """
    address = address or store()
    with one_writer(), explained(address):
        client = connect(address)
        client.set_model_version_tag(chosen.name, chosen.version, "champion_reason", reason)
        client.set_registered_model_alias(chosen.name, CHAMPION, chosen.version)


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
                artifact_uri=uri, dst_path=str(folder), tracking_uri=address, registry_uri=registry(address)
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
