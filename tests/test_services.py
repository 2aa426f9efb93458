"""`make up`, a deployment that really runs on the worker, `make down`."""

import os
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import psutil
import pytest
import standin

from flows import services

ROOT = Path(__file__).parents[1]


@pytest.fixture
def project(tmp_path, monkeypatch):
    folder = standin.make(tmp_path)
    shutil.copytree(ROOT / "flows", folder / "flows")
    shutil.copy(ROOT / "prefect.yaml", folder)
    for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(folder)
    yield folder
    services.down()


def test_a_deployment_runs_on_the_services_of_make_up_and_make_down_stops_them(project):
    started = services.up()
    assert [service.name for service in started] == ["prefect-server", "mlflow-ui", "prefect-worker"]
    assert services.up() == started  # a second `make up` finds them
    result = subprocess.run(
        [sys.executable, "-m", "prefect", "deployment", "run", "experiment/local", "--watch"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert standin.executed(project) == list(standin.STAGES)
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
