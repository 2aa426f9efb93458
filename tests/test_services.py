"""`make up`, a deployment that really runs on the worker, `make down`."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest
import standin

from flows import services
from ups.pipeline import executions

ROOT = Path(__file__).parents[1]


@pytest.fixture
def project(tmp_path, monkeypatch):
    folder = standin.make(tmp_path)
    code = (folder / "stage.py").read_text()
    wait = f"while pathlib.Path({str(folder)!r}, 'wait').exists():\n    time.sleep(0.05)\n"
    (folder / "stage.py").write_text(code.replace("name = sys.argv[1]\n", "name = sys.argv[1]\n" + wait))
    shutil.copytree(ROOT / "flows", folder / "flows")
    shutil.copy(ROOT / "prefect.yaml", folder)
    for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(folder)
    yield folder
    services.down()


def prefect(*arguments):
    command = [sys.executable, "-m", "prefect", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def waiting_stage(process, project):
    with contextlib.suppress(psutil.Error):
        arguments = process.info["cmdline"] or []  # a zombie has none
        return arguments[1:2] == ["stage.py"] and process.cwd().startswith(str(project))
    return False


def wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError("it did not happen in time")


def test_a_deployment_runs_on_the_services_of_make_up_and_make_down_stops_them(project):
    started = services.up()
    assert [service.name for service in started] == ["prefect-server", "mlflow-ui", "prefect-worker"]
    assert services.up() == started  # a second `make up` finds them
    result = prefect("deployment", "run", "experiment/local", "--watch")
    assert result.returncode == 0, result.stdout + result.stderr
    assert standin.executed(project) == list(standin.STAGES)
    # A sweep; then one that is cancelled while its stage runs.
    chosen = ["-p", 'sweep="golden-vs-light"', "-p", "compare_variants=false"]
    result = prefect("deployment", "run", "ablation-sweep/local", *chosen, "--watch")
    assert result.returncode == 0, result.stdout + result.stderr
    assert {path.name for path in (project / ".ups/results").iterdir()} == {"golden-42", "light-diffusion-42"}
    assert {entry.returncode for entry in executions.read()} == {0}
    before = len(executions.read())
    (project / "wait").touch()
    standin.set_parameter(project, "learning_rate: 0.00005", "learning_rate: 0.0004")
    begun = prefect("deployment", "run", "ablation-sweep/local", "-p", "sweep=null", "-p", "compare_variants=false")
    flow_run = re.search(r"[0-9a-f]{8}-[0-9a-f-]{27}", begun.stdout)
    assert flow_run, begun.stdout
    stage = wait_for(lambda: [p for p in psutil.process_iter(["cmdline"]) if waiting_stage(p, project)])[0]
    assert prefect("flow-run", "cancel", flow_run[0]).returncode == 0
    stage.wait(120)
    ended = wait_for(lambda: executions.read()[before:])
    assert [entry.stage for entry in ended] == ["train_diffusion"]
    assert ended[0].returncode != 0
    assert wait_for(lambda: "Cancelled" in prefect("flow-run", "inspect", flow_run[0]).stdout)
    assert not list((project / ".ups/tracking").glob("*"))  # no MLflow run is left open
    with urllib.request.urlopen(started[1].address, timeout=20) as page:
        assert b"MLflow" in page.read()

    family = [p.pid for service in started for p in psutil.Process(service.pid).children(recursive=True)]
    assert {service.name for service in services.down()} == {service.name for service in started}
    assert not any(psutil.pid_exists(pid) for pid in [*family, *(service.pid for service in started)])
    assert not (project / "prefect.toml").exists()
    assert services.down() == []


def test_a_recorded_number_that_belongs_to_another_process_is_left_alone(project):
    services.FOLDER.mkdir(parents=True)
    services._write([services.Service("prefect-server", os.getpid(), created=1.0, address="")])
    assert services.down() == []  # and this test is still running


def test_a_settings_file_of_the_users_own_is_kept(project):
    (project / "prefect.toml").write_text('[api]\nurl = "http://elsewhere"\n')
    services.down()
    with pytest.raises(services.ServiceError, match="was not written by `make up`"):
        services.up()
    assert "elsewhere" in (project / "prefect.toml").read_text()
