"""`ups doctor`: what is planted is found, with what to do about it; what is in order is ok; nothing heavy is loaded."""

import http.server
import json
import subprocess
import sys
import threading

import pytest
import standin
from standin import ROOT

from ups.doctor import cache, leftovers, machine, packages, report
from ups.doctor import services as tools
from ups.doctor.finding import State
from ups.pipeline import executions, services
from ups.pipeline.locks import SWEEP, Lock

DEAD = "http://127.0.0.1:9"  # the port "discard", on which nothing listens


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PYTHONPATH"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture(scope="module")
def healthy_server():
    class Healthy(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path.endswith("/health") else 404)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Healthy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_pinned_packages(place):
    (place / "requirements.lock").write_text(f"numpy=={packages.installed('numpy')}\n")
    assert packages.packages().state is State.OK
    (place / "requirements.lock").write_text("numpy==1.0\nabsent-package==2.0\n")
    found = packages.packages()
    assert found.state is State.WARN
    assert "absent-package missing (pinned 2.0)" in found.found
    assert "pip install --no-deps numpy==1.0 absent-package==2.0" in found.mend
    (place / "pyproject.toml").write_text('[project]\ndependencies = ["numpy<1", "pydantic>=2"]\n')
    found = packages.packages()
    assert found.state is State.PROBLEM
    assert "numpy<1" in found.found
    assert "pydantic" not in found.found


def test_the_repositorys_own_lock_is_read_whole():
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if line and line[0] != "#"]
    assert len(packages.read_lock(ROOT / "requirements.lock")) == len(lines)
    assert packages.unmet(ROOT / "pyproject.toml") == []


def test_the_build_of_torch_is_read_without_importing_it():
    import torch

    assert packages.built_for_cuda() == torch.version.cuda


def test_a_gpu_that_is_not_there(monkeypatch):
    monkeypatch.setattr(executions, "gpu_count", lambda: 0)
    assert machine.torch_and_gpu({"device": "auto"}).state is State.OK
    found = machine.torch_and_gpu({"device": "cuda"})
    assert (found.state, "compute.device: auto" in found.mend) == (State.PROBLEM, True)
    monkeypatch.setattr(executions, "gpu_count", lambda: 1)
    monkeypatch.setattr(machine, "built_for_cuda", lambda: None)
    assert machine.torch_and_gpu({"device": "auto"}).state is State.WARN


def test_more_threads_than_processors(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert machine.threads({}).state is State.OK
    assert machine.threads({"num_threads": 10_000}).state is State.WARN


@pytest.mark.parametrize(("free", "state"), [(5e8, State.PROBLEM), (5e9, State.WARN), (5e10, State.OK)])
def test_disks(place, monkeypatch, free, state):
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: type("Usage", (), {"free": free}))
    (found,) = machine.disks(place)  # cache and workspaces lie on one disk
    assert found.state is state


def test_the_cache(place):
    assert cache.cache(place)[0].state is State.PROBLEM
    (place / ".dvc").mkdir()
    (place / ".dvc" / "config").write_text("[cache]\n    type = hardlink\n")
    links, results = cache.cache(place)
    assert (links.state, results.state) == (State.WARN, State.OK)
    (place / ".dvc" / "config").write_text("[cache]\n    type = reflink,copy\n")
    assert cache.cache(place)[0].state is State.OK
    before = sorted(place.rglob("*"))
    (place / "dvc.lock").write_text("stages: {one: {outs: [{path: a, md5: 0123456789abcdef0123456789abcdef}]}}\n")
    found = cache.cache(place)[1]
    assert (found.state, "one" in found.found or "every stage" in found.found) == (State.WARN, True)
    (place / ".dvc" / "config").write_text(f"[cache]\n    dir = {place / 'dvc.lock'}\n")
    assert cache.cache(place)[0].state is State.PROBLEM  # a file cannot hold a cache
    assert [path for path in sorted(place.rglob("*")) if path.name != "dvc.lock"] == before


def test_dvcs_own_locks(place):
    (place / ".dvc" / "tmp").mkdir(parents=True)
    process = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    for pid, state in ((int(process.stdout), State.WARN), (__import__("os").getpid(), State.OK)):
        entries = {"/a": {"read": [{"pid": pid, "cmd": "dvc repro"}]}}
        (place / ".dvc" / "tmp" / "rwlock").write_text(json.dumps(entries))
        assert cache.cache(place)[-1].state is state
    (place / ".dvc" / "tmp" / "rwlock").write_text("{}")
    assert cache.cache(place)[-1].name == "results"


def test_mlflow(place, monkeypatch, healthy_server):
    (found,) = tools.mlflow_store()
    assert (found.state, "not there yet" in found.found) == (State.OK, True)
    (place / "mlflow.db").write_text("no database")
    (found,) = tools.mlflow_store()
    assert (found.state, "cannot be read" in found.found) == (State.PROBLEM, True)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", DEAD)
    (found,) = tools.mlflow_store()
    assert (found.state, "ups publish --all" in found.mend) == (State.WARN, True)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", healthy_server)
    (place / ".ups" / "tracking").mkdir(parents=True)
    (place / ".ups" / "tracking" / "0123").touch()  # the sign of a live run, locked by nobody
    found, runs = tools.mlflow_store()
    assert (found.state, runs.state) == (State.OK, State.WARN)


def test_prefect(place, monkeypatch, healthy_server):
    assert tools.prefect_server().state is State.OK
    services.SETTINGS.write_text(f'[api]\nurl = "{DEAD}/api"\n')
    found = tools.prefect_server()
    assert (found.state, "make up" in found.mend) == (State.PROBLEM, True)
    monkeypatch.setenv("PREFECT_API_URL", f"{healthy_server}/api")  # wins, as with Prefect
    assert tools.prefect_server().state is State.OK


def test_what_make_up_started(place):
    assert tools.started(services.read()) == []
    services.FOLDER.mkdir(parents=True)
    entry = {"name": "mlflow-ui", "pid": 1, "created": 1.0, "address": "http://127.0.0.1:1"}
    services.RECORD.write_text(json.dumps([entry]))
    (found,) = tools.started(services.read())
    assert (found.state, "mlflow-ui" in found.found) == (State.WARN, True)


def test_what_sweeps_left(place):
    assert [found.state for found in leftovers.sweeps()] == [State.OK]
    (place / ".ups" / "workspaces" / "golden-1").mkdir(parents=True)  # without .git: torn
    found = leftovers.sweeps()[0]
    assert (found.state, "golden-1" in found.found, "ups prune" in found.mend) == (State.WARN, True, True)
    with Lock(SWEEP).held(shared=True):
        assert "is running" in leftovers.sweeps()[0].found


def test_git(place):
    assert leftovers.git(place).state is State.PROBLEM
    standin.git(place, "init", "-q")
    assert leftovers.git(place).state is State.PROBLEM  # no commit yet
    (place / "file").touch()
    standin.git(place, "add", ".")
    standin.git(place, "commit", "-q", "-m", "start")
    assert "no changed" in leftovers.git(place).found
    (place / "file").write_text("changed")
    assert "1 changed" in leftovers.git(place).found


def test_outside_a_project_there_are_problems_and_no_traceback(place):
    result = standin.ups(place, "doctor", "--json")
    shown = json.loads(result.stdout)
    assert (result.returncode, result.stderr) == (1, "")
    assert shown["problems"] == sum(finding["state"] == "problem" for finding in shown["findings"]) >= 3
    assert all(finding["mend"] for finding in shown["findings"] if finding["state"] != "ok")


def test_text_has_a_line_for_each_finding_and_the_counts():
    findings = [packages.interpreter(), machine.threads({"num_threads": 10_000})]
    lines = report.text(findings)
    assert len(lines) == 4
    assert lines[-1].endswith("1 warnings.")


@pytest.mark.parametrize("arguments", [["--help"], ["plan", "--help"], ["doctor"]], ids=" ".join)
def test_starting_is_light(arguments):
    code = (
        "import atexit, sys\n"
        "heavy = ('torch', 'prefect', 'mlflow', 'dvc', 'pandas', 'matplotlib', 'h5py')\n"
        "atexit.register(lambda: print('loaded:', *[m for m in heavy if m in sys.modules], file=sys.stderr))\n"
        f"sys.argv = ['ups', *{arguments}]\n"
        "from ups.cli import main; main()\n"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.stderr == "loaded:\n"
    assert result.stdout
