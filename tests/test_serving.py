"""A surrogate as an MLflow model: `mlflow models serve` answers with the numbers of `evaluate`."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import numpy as np
import pytest
import torch
from small_surrogate import write_bundle

import ups
from ups.errors import ArtifactError, InputError
from ups.evaluation.metrics import nrmse
from ups.serving import _load_pyfunc, model_arguments
from ups.tracking import TrackingError

FIELDS = np.random.default_rng(3).normal(size=(3, 5, 1, 32)).astype(np.float32)  # (B, T, C, X)
VISCOSITY = np.array([0.01, 0.015, 0.02])


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("serving") / "surrogate")


@pytest.fixture(scope="module")
def expected(bundle):
    """What `evaluate` scores: the forecaster's frames, (B, steps, C, X)."""
    forecaster = ups.load(bundle).surrogate.forecaster()
    given, table = torch.from_numpy(FIELDS[:, :1]), torch.tensor(VISCOSITY, dtype=torch.float32)[:, None]
    return forecaster(given, 4, table).numpy()


def test_it_answers_with_the_forecast_that_evaluate_scores(bundle, expected):
    model = _load_pyfunc(str(bundle))
    answer = model.predict({"u": FIELDS[:, 0], "viscosity": VISCOSITY}, {"steps": 4})
    np.testing.assert_array_equal(answer, expected)
    assert model.predict({"u": FIELDS[:1, 0].tolist(), "viscosity": 0.01}).shape == (1, 1, 1, 32)


@pytest.mark.parametrize(
    ("model_input", "params", "message"),
    [
        (FIELDS, None, r"named tensors were expected: \{\"inputs\": \{\"u\": \.\.\., \"viscosity\""),
        ({"u": FIELDS[:, 0]}, None, r"\['viscosity', 'u'\]|\['u'\]; \['u', 'viscosity'\]"),
        ({"u": FIELDS[:, 0], "viscosity": [0.5]}, None, "trained for viscosity"),
        ({"u": FIELDS[:, 0], "viscosity": [0.01, 0.02]}, None, r"shape \(2,\)"),
        ({"u": FIELDS[:, 0], "viscosity": [0.01]}, {"steps": 10**9}, "at most 10000"),
        ({"u": FIELDS[:, 0], "viscosity": [0.01]}, {"steps": 0}, "steps = 0"),
    ],
)
def test_requests_it_cannot_answer(bundle, model_input, params, message):
    with pytest.raises(InputError, match=message):
        _load_pyfunc(str(bundle)).predict(model_input, params)


def test_the_arguments_are_made_without_torch(bundle):
    code = f"""
import sys
from pathlib import Path
from ups.serving import model_arguments
print(model_arguments(Path({str(bundle)!r}))["pip_requirements"])
assert "torch" not in sys.modules and "mlflow" not in sys.modules
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "'torch==2" in result.stdout
    assert "+cpu" not in result.stdout


def test_the_arguments_refuse_what_is_no_bundle(tmp_path):
    with pytest.raises(ArtifactError, match=r"has no surrogate\.json"):
        model_arguments(tmp_path)


@pytest.fixture(scope="module")
def logged(bundle, tmp_path_factory):
    """A store with the surrogate logged, registered as `burgers1d` and crowned; returns (address, run id)."""
    mlflow = pytest.importorskip("mlflow")
    from mlflow.models import ModelSignature

    folder = tmp_path_factory.mktemp("store")
    address = f"sqlite:///{folder}/mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", address)
        mlflow.set_tracking_uri(address)
        experiment = mlflow.create_experiment("burgers1d", str(folder / "artifacts"))
        arguments = model_arguments(bundle)
        signature = ModelSignature.from_dict(arguments.pop("signature"))
        with mlflow.start_run(experiment_id=experiment) as run:
            mlflow.pyfunc.log_model(
                name="surrogate", signature=signature, registered_model_name="burgers1d", **arguments
            )
            mlflow.log_artifacts(str(bundle), "bundle")
            mlflow.log_text("nothing", "other/note.txt")
        mlflow.MlflowClient().set_registered_model_alias("burgers1d", "champion", 1)
        mlflow.set_tracking_uri(None)
    return address, run.info.run_id


@pytest.mark.nightly
def test_a_model_in_the_store_loads_by_its_uri(bundle, logged, expected, monkeypatch, tmp_path):
    address, run_id = logged
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    here = ups.load(bundle)
    for uri in (
        "models:/burgers1d@champion",
        "models:/burgers1d/1",
        f"runs:/{run_id}/surrogate",
        f"runs:/{run_id}/bundle",
    ):
        surrogate = ups.load(uri)
        assert (surrogate.origin, surrogate.checksum) == (uri, here.checksum)
        states = surrogate.rollout(surrogate.state(FIELDS[:, 0], viscosity=VISCOSITY), 4)
        np.testing.assert_array_equal(np.stack([s.u for s in states], 1), expected)
        surrogate.surrogate.save(tmp_path / uri.replace("/", "-"))  # its files are still there
    for uri, message in [
        ("models:/burgers1d@nobody", "could not be had"),
        ("models:/other/1", "could not be had"),
        (f"runs:/{run_id}/nothing", "could not be had"),
        ("runs:/0123/surrogate", "could not be had"),
    ]:
        with pytest.raises(TrackingError, match=message):
            ups.load(uri)
    with pytest.raises(ArtifactError, match=r"has no surrogate\.json"):
        ups.load(f"runs:/{run_id}/other")


@contextlib.contextmanager
def served(uri, address, log):
    """Run `mlflow models serve` on a free port; yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", uri, "--env-manager", "local"]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": address, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
    # `mlflow` starts the server through a shell that looks for `python` and `uvicorn` on the path.
    environment["PATH"] = f"{os.path.dirname(sys.executable)}:{environment['PATH']}"
    with log.open("w") as output:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"],
            cwd=log.parent, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 400
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5).close()
                break
            assert server.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


@pytest.mark.nightly
def test_a_served_model_answers_a_curl(logged, expected, tmp_path):
    address, _ = logged
    request = {"inputs": {"u": FIELDS[:, 0].tolist(), "viscosity": VISCOSITY.tolist()}, "params": {"steps": 4}}
    (tmp_path / "request.json").write_text(json.dumps(request))
    with served("models:/burgers1d@champion", address, tmp_path / "log.txt") as place:
        command = ["curl", "-sS", "--fail", f"{place}/invocations", "-H", "Content-Type: application/json"]
        answer = subprocess.run(
            [*command, "-d", "@request.json"], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout
        made = np.array(json.loads(answer)["predictions"], dtype=np.float32)
        np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-6)
        truth = torch.from_numpy(FIELDS[:, 1:])
        scores = [float(nrmse(torch.from_numpy(frames), truth).mean()) for frames in (made, expected)]
        assert scores[0] == pytest.approx(scores[1], rel=1e-5)
        request["inputs"]["viscosity"] = [0.5, 0.5, 0.5]
        with pytest.raises(urllib.error.HTTPError) as refusal:
            post(f"{place}/invocations", request)
        assert "trained for viscosity from 0.01 to 0.02" in refusal.value.read().decode()


def post(address, content):
    headers = {"Content-Type": "application/json"}
    return urllib.request.urlopen(urllib.request.Request(address, json.dumps(content).encode(), headers), timeout=60)
