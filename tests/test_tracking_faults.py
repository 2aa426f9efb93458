"""A tracking server that is away, silent, or goes away in the middle: results stay, publishing is repeated, once."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import shapes
from aftermath import nothing_is_left

mlflow = pytest.importorskip("mlflow")

QUICK = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
REQUEST = re.compile(rb"(GET|POST|PUT|PATCH) /")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Gate:
    """What stands between a client and a server on this machine, and can be shut, also after some more requests.

    Args:
        server: the server's port.
    """

    def __init__(self, server: int) -> None:
        self.server, self.port = server, free_port()
        self._requests_left: int | None = None
        self._listener: socket.socket | None = None
        self._open: list[socket.socket] = []

    def open(self, requests: int | None = None) -> None:
        """Let everything through, or so many requests."""
        self._requests_left = requests
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=[self._listener], daemon=True).start()

    def shut(self) -> None:
        """Refuse connections and cut those that are there."""
        listener, self._listener = self._listener, None
        for end in [*([listener] if listener else []), *self._open]:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._open.clear()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # it was shut
            while True:
                client = listener.accept()[0]
                server = socket.create_connection(("127.0.0.1", self.server))
                self._open += [client, server]
                for source, target in ((client, server), (server, client)):
                    threading.Thread(target=self._pass, args=[source, target], daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while content := source.recv(1 << 16):
                if REQUEST.match(content) and self._requests_left is not None:
                    self._requests_left -= 1
                    if self._requests_left < 0:
                        self.shut()
                        return
                target.sendall(content)
            target.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Return the port of a real MLflow server."""
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        str(folder / "files"),
    ]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", **QUICK}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=environment, start_new_session=True)
    try:
        shapes.wait_for(lambda: _answers(port) or process.poll() is not None, 180)
        assert process.poll() is None, (folder / "log").read_text()
        yield port
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as page:
            return page.status == 200
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Return a project with the results of every variant, none of which was published."""
    folder = shapes.make(tmp_path_factory.mktemp("swept") / "project")
    shapes.ups(folder, "sweep", "--sweep", "all", "--no-publish")
    shapes.executed(folder)
    return folder


@pytest.fixture
def gate(server):
    made = Gate(server)
    yield made
    made.shut()


def runs(server: int, variant: str) -> list[str]:
    """Return the status of every run of a variant, asked of the server itself."""
    client = mlflow.MlflowClient(f"http://127.0.0.1:{server}")
    experiment = client.get_experiment_by_name("burgers1d")
    if experiment is None:
        return []
    found = client.search_runs([experiment.experiment_id], f"tags.variant = '{variant}'")
    return sorted(run.info.status for run in found)


def test_a_server_that_is_away_for_a_while(swept, server, gate):
    store = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{gate.port}", **QUICK}
    process = shapes.start(swept, "sweep", "v0", "v1", **store)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out.count("0 executed")) == (0, 1), "the sweep itself has succeeded"
    assert err.count("ups: ") == err.count("\n") == 1, "one sentence, also for two results"
    assert re.search(r"could not be written: .*the results are in .*Repeat with `ups publish --all`", err), err
    assert (swept / ".ups/results/v1-42/artifacts/evaluate/metrics.json").is_file()
    shown = shapes.ups(swept, "publish", "v0-42", code=1, **store)
    assert shown.count("ups: The tracking store") == shown.count("\n") == 1
    gate.open()
    shown = shapes.ups(swept, "publish", "v0-42", "v1-42", **store)
    assert shown.count(": Published as MLflow run") == 2
    assert (runs(server, "v0"), runs(server, "v1")) == (["FINISHED"], ["FINISHED"])
    assert shapes.ups(swept, "publish", "v0-42", **store).count("Already published") == 1
    assert shapes.executed(swept) == [], "publishing runs no stage"
    nothing_is_left(swept)


def test_a_server_that_goes_away_while_a_run_is_written(swept, server, gate):
    """After any number of requests: the run that was begun is closed as such, and the whole one is there once."""
    store = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{gate.port}", **QUICK}
    cut_off = []
    for variant, requests in {"v2": 4, "v3": 6, "v4": 8}.items():
        gate.open(requests)
        shown = shapes.ups(swept, "publish", f"{variant}-42", code=1, **store)
        assert shown.count("ups: The tracking store") == 1, shown
        assert "Traceback" not in shown
        cut_off += runs(server, variant)
        gate.shut()
    assert "RUNNING" in cut_off, "it struck in the middle of a run"
    gate.open()
    for _ in range(2):
        shapes.ups(swept, "publish", "--all", **store)
        for variant in ("v2", "v3", "v4"):
            assert runs(server, variant).count("FINISHED") == 1
            assert "RUNNING" not in runs(server, variant)
    assert shapes.executed(swept) == []
    nothing_is_left(swept)


def test_a_server_that_never_answers_costs_a_sweep_its_patience_and_no_more(swept):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        quick = {**QUICK, "MLFLOW_HTTP_REQUEST_TIMEOUT": "2"}
        process = shapes.start(swept, "sweep", "v5", "v6", MLFLOW_TRACKING_URI=f"http://127.0.0.1:{port}", **quick)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert err.count("Repeat with `ups publish --all`") == 1
    nothing_is_left(swept)
