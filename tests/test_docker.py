"""Dockerfile and compose.yaml without a container engine: what can be read, and the services by hand where possible."""

import fnmatch
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import standin
import yaml
from standin import ROOT

FOLDER = ROOT / "docker"
_SPEC = importlib.util.spec_from_file_location("by_hand", FOLDER / "by_hand.py")  # `docker` is a package of PyPI's
by_hand = importlib.util.module_from_spec(_SPEC)
sys.modules["by_hand"] = by_hand  # dataclasses look their module up
_SPEC.loader.exec_module(by_hand)

PASSWORDS = {name: f"secret-{name}" for name in by_hand.PASSWORDS}
COMPOSE = by_hand.read(PASSWORDS)
CUDA = by_hand.read(PASSWORDS, FOLDER / "compose.cuda.yaml")
SERVICES = COMPOSE["services"]
OURS = [name for name in SERVICES if "build" in SERVICES[name]]
PINNED = re.compile(r"[\w./-]+:\d+\.\d+(\.\d+)?-\w[\w-]*")
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def instructions() -> list[tuple[str, str]]:
    """(instruction, rest) of the Dockerfile, continued lines joined and comments dropped."""
    lines = [line for line in (FOLDER / "Dockerfile").read_text().splitlines() if not line.strip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def arguments() -> dict[str, str]:
    return dict(rest.split("=", 1) for word, rest in instructions() if word == "ARG")


# --- compose.yaml


def test_ports_are_published_on_loopback_only():
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == 2
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in ports)
    assert not any({"network_mode", "privileged", "pid", "devices"} & set(service) for service in SERVICES.values())


def test_only_servers_reach_the_database():
    assert COMPOSE["networks"]["database"]["internal"] is True
    users = {name for name, service in SERVICES.items() if "database" in service["networks"]}
    assert users == {"postgres", "mlflow", "prefect-server"}
    assert all(service["networks"] for service in SERVICES.values())  # none falls back to the default network


@pytest.mark.parametrize("name", by_hand.PASSWORDS)
@pytest.mark.parametrize("missing", [None, ""], ids=["absent", "empty"])
def test_nothing_starts_without_a_password(name, missing):
    variables = {key: value for key, value in {**PASSWORDS, name: missing}.items() if value is not None}
    with pytest.raises(by_hand.ByHandError, match=rf"^{name} is not set, see docker/\.env\.example"):
        by_hand.read(variables)


def test_no_password_is_written_down():
    raw = yaml.safe_load(by_hand.COMPOSE.read_text())
    settings = {k: v for service in raw["services"].values() for k, v in service.get("environment", {}).items()}
    secrets = {key: value for key, value in settings.items() if "PASSWORD" in key}
    assert len(secrets) == 4
    assert all(re.fullmatch(r"\$\{\w+_PASSWORD:\?[^}]+\}", value) for value in secrets.values())
    assert not [v for v in settings.values() if re.search(r"://[^/@]*:[^/@]*@", v)]  # nor in an address
    example = dict(line.split("=", 1) for line in (FOLDER / ".env.example").read_text().splitlines() if "=" in line)
    assert {name: example[name] for name in by_hand.PASSWORDS} == dict.fromkeys(by_hand.PASSWORDS, "")
    ignored = subprocess.run(["git", "check-ignore", "docker/.env"], cwd=ROOT, capture_output=True, check=False)
    assert ignored.returncode == 0


def test_the_example_names_every_variable():
    files = [by_hand.COMPOSE, FOLDER / "compose.cuda.yaml"]
    used = {name for file in files for name in re.findall(r"\$\{(\w+)", file.read_text())}
    example = (FOLDER / ".env.example").read_text()
    assert used == set(re.findall(r"^(\w+)=", example, re.MULTILINE))


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_pinned_unprivileged_and_watched(name):
    service = SERVICES[name]
    assert PINNED.fullmatch(service["image"]), service["image"]
    assert service["user"].split(":")[0] not in {"", "0", "root"}
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["healthcheck"]["test"][0] == "CMD"
    for needed, rule in service.get("depends_on", {}).items():
        assert needed in SERVICES
        assert rule == {"condition": "service_healthy"}


def test_our_image_carries_the_version_and_is_never_pulled():
    assert OURS == ["mlflow", "prefect-server", "worker"]
    assert {SERVICES[name]["image"] for name in OURS} == {f"ups-pipeline:{VERSION}-cpu"}
    assert {SERVICES[name]["pull_policy"] for name in OURS} == {"build"}
    assert CUDA["services"]["worker"]["image"] == f"ups-pipeline:{VERSION}-cuda"
    for name in OURS:
        assert SERVICES[name]["build"]["target"] == "cpu"
        assert set(SERVICES[name]["build"]["args"]) <= set(arguments())  # an unknown one is silently ignored
    assert CUDA["services"]["worker"]["build"] == {"target": "cuda"}


def test_volumes_are_named_and_used():
    used = {text.split(":")[0] for service in SERVICES.values() for text in service.get("volumes", [])}
    assert {source for source in used if not source.startswith(".")} == set(COMPOSE["volumes"])
    binds = [by_hand.COMPOSE.parent / source for source in used if source.startswith(".")]
    assert all(path.exists() for path in binds)
    assert os.access(FOLDER / "postgres-init.sh", os.X_OK)  # else the image sources it into its own shell


def test_telemetry_is_off_in_every_service_and_in_the_image():
    exported = re.findall(r"^export (\w+) := (\w+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    switches = {name: value for name, value in exported if name != "PIP_DISABLE_PIP_VERSION_CHECK"}
    assert len(switches) == 4
    for name in OURS:
        assert switches.items() <= SERVICES[name]["environment"].items()
    image = dict(pair.split("=", 1) for word, rest in instructions() if word == "ENV" for pair in shlex.split(rest))
    assert switches.items() <= image.items()


def test_authentication_is_not_switched_on_by_an_empty_string():
    settings = [key for service in SERVICES.values() for key in service.get("environment", {})]
    assert "PREFECT_SERVER_API_AUTH_STRING" not in settings
    assert "PREFECT_SERVER_API_AUTH_STRING" not in [key for word, key in instructions() if word == "ENV"]


def test_mlflow_answers_to_the_names_it_is_called_by_and_to_no_other():
    from mlflow.server.security_utils import is_allowed_host_header

    (option,) = [word for word in SERVICES["mlflow"]["command"] if word.startswith("--allowed-hosts=")]
    allowed = option.partition("=")[2].split(",")
    inside = SERVICES["worker"]["environment"]["MLFLOW_TRACKING_URI"].removeprefix("http://")
    outside = SERVICES["mlflow"]["ports"][0].rpartition(":")[0]
    assert is_allowed_host_header(allowed, inside)
    assert is_allowed_host_header(allowed, outside)
    assert not is_allowed_host_header(allowed, "rebound.example:5000")


def test_the_worker_serves_the_pool_of_the_deployments():
    script = SERVICES["worker"]["command"][-1]
    pools = re.findall(r"(?:work-pool create|--pool) (\S+)", script)
    declared = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    assert {entry["work_pool"]["name"] for entry in declared} == set(pools) == {"local"}
    assert SERVICES["worker"]["environment"]["UPS_PROJECT"] == SERVICES["worker"]["working_dir"]
    assert f"..:{SERVICES['worker']['working_dir']}" in SERVICES["worker"]["volumes"]


# --- Dockerfile


def test_every_stage_starts_from_something_pinned():
    stages = []
    for word, rest in instructions():
        if word == "FROM":
            source, _, name = rest.partition(" AS ")
            source = re.sub(r"\$\{(\w+)\}", lambda found: arguments()[found.group(1)], source)
            assert source in stages or PINNED.fullmatch(source), source
            stages.append(name)
    assert stages == ["base", "cuda", "cpu"]  # the last one is the default


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_the_image_runs_as_nobody_special(target):
    words = "\n".join(" ".join(pair) for pair in instructions())
    (stage,) = [part for part in words.split("FROM ") if part.partition("\n")[0].endswith(f"AS {target}")]
    assert stage.rstrip().splitlines()[-2:] == ["USER ups", 'CMD ["ups", "--help"]']
    assert stage.count("USER") == 1
    assert 'test "$UPS_UID" -gt 0' in words  # not root by a build argument either


def test_nothing_comes_from_the_network_but_pinned_packages():
    assert not [rest for word, rest in instructions() if word == "ADD"]
    runs = [rest for word, rest in instructions() if word == "RUN"]
    assert not [run for run in runs if re.search(r"\b(curl|wget)\b", run)]
    for run in runs:
        if "apt-get install" in run:
            assert "--no-install-recommends" in run
            assert "rm -rf /var/lib/apt/lists/*" in run
    installs = [install for run in runs for install in re.findall(r"pip install ([^&]*)", run)]
    locked = ["-qq", "-r", "requirements.lock", "-r", "requirements.txt"]
    torch = ["-qq", "--no-deps", "--index-url", "$TORCH_INDEX", "$(grep '^torch==' requirements.lock)"]
    assert [shlex.split(install) for install in installs] == [locked, torch, locked]
    assert [run.count(".ci/install /opt/venv") for run in runs if ".ci" in run] == [1, 1]


def test_what_is_copied_exists_and_is_sent():
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    for word, rest in instructions():
        for source in rest.split()[:-1] if word == "COPY" else []:
            assert (ROOT / source).exists()
            assert not any(fnmatch.fnmatch(source, pattern) for pattern in patterns)


def test_what_git_ignores_is_not_sent():
    """Nothing that is not in git gets into the image: no results, no databases, no passwords."""
    files = {"": ROOT / ".gitignore", ".dvc/": ROOT / ".dvc/.gitignore"}
    ignored = {p + line.strip("/") for p, file in files.items() for line in file.read_text().splitlines() if line}
    sent = (ROOT / ".dockerignore").read_text().splitlines()
    assert "docker/.env" in ignored
    missing = [name for name in ignored if not {name, f"**/{name}", f"**/{Path(name).name}"} & set(sent)]
    assert missing == []
    assert ".git" in sent


def test_the_additional_packages_are_pinned_and_not_in_the_lock():
    lines = [line for line in (FOLDER / "requirements.txt").read_text().splitlines() if line and line[0] != "#"]
    locked = {line.split("==")[0].lower() for line in (ROOT / "requirements.lock").read_text().splitlines()}
    assert lines
    for line in lines:
        name, version = line.split("==")
        assert name not in locked
        assert version[0].isdigit()
    assert "asyncpg" in locked  # Prefect's driver


# --- by hand


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${A}:${B:-7}", "x:7"),
        ("${A:?no}", "x"),
        ("${EMPTY:-default}", "default"),
        ("$5 and {A}", "$5 and {A}"),
    ],
)
def test_variables_are_filled_in_as_compose_does(text, expected):
    assert by_hand.interpolate(text, {"A": "x", "EMPTY": ""}) == expected


def test_words_of_a_service_are_moved_to_this_machine(tmp_path):
    place = by_hand.Place(tmp_path, {("db", "5432"): "61", ("web", "80"): "62"}, {"web": [("/data", tmp_path)]})
    moved = {
        "postgresql://u@db:5432/x": "postgresql://u@127.0.0.1:61/x",
        "http://127.0.0.1:80/health": "http://127.0.0.1:62/health",
        "--port=80": "--port=62",
        "80": "62",
        "--host=0.0.0.0": "--host=127.0.0.1",
        "--to=/data/a": f"--to={tmp_path}/a",
        "/database": "/database",
        "--workers=80": "--workers=80",
        "5432": "5432",  # another service's port
    }
    assert {text: place.here("web", text) for text in moved} == moved


def _programs() -> str | None:
    """A path with PostgreSQL's server programs, which Debian keeps off the usual one."""
    folders = [os.environ["PATH"], *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))]
    path = os.pathsep.join([str(Path(sys.executable).parent), *folders])
    found = all(shutil.which(program, path=path) for program in ("initdb", "postgres", "psql", "pg_isready"))
    return path if found and importlib.util.find_spec("psycopg2") else None


def _ask(address: str, **body) -> dict:
    request = urllib.request.Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def _psql(running, user: str, database: str, password: str) -> int:
    host, port = running.address("postgres").split(":")
    command = ["psql", "-X", "-h", host, "-p", port, "-U", user, "-d", database, "-c", "select 1"]
    return subprocess.run(
        command, env={**os.environ, "PGPASSWORD": password}, capture_output=True, check=False
    ).returncode


@pytest.mark.nightly
@pytest.mark.skipif(_programs() is None, reason="needs PostgreSQL and docker/requirements.txt")
def test_a_deployment_runs_on_the_services_and_its_curves_are_in_postgresql(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", _programs())
    project = standin.make(tmp_path)
    shutil.copytree(ROOT / "flows", project / "flows")
    shutil.copy(ROOT / "prefect.yaml", project)
    with by_hand.services(project, variables=PASSWORDS) as running:
        assert _psql(running, "mlflow", "mlflow", PASSWORDS["MLFLOW_DB_PASSWORD"]) == 0
        assert _psql(running, "mlflow", "mlflow", "wrong") != 0
        assert _psql(running, "mlflow", "prefect", PASSWORDS["MLFLOW_DB_PASSWORD"]) != 0

        clients = {"PREFECT_API_URL": f"http://{running.address('prefect-server')}/api"}
        command = [sys.executable, "-m", "prefect", "deployment", "run", "experiment/local", "--watch"]
        result = subprocess.run(
            command, env={**os.environ, **clients}, capture_output=True, text=True, timeout=400, check=False
        )
        assert result.returncode == 0, result.stdout + result.stderr + running.log("worker").read_text()
        assert standin.executed(project) == list(standin.STAGES)

        mlflow = f"http://{running.address('mlflow')}/api/2.0/mlflow"
        experiments = _ask(f"{mlflow}/experiments/search", max_results=9)["experiments"]
        ids = [entry["experiment_id"] for entry in experiments]
        (run,) = _ask(f"{mlflow}/runs/search", experiment_ids=ids)["runs"]
        question = f"run_id={run['info']['run_id']}&metric_key=train_operator/val_loss"
        with urllib.request.urlopen(f"{mlflow}/metrics/get-history?{question}", timeout=30) as answer:
            assert [point["step"] for point in json.load(answer)["metrics"]] == [0, 1, 2]
        stranger = urllib.request.Request(f"{mlflow}/experiments/search", headers={"Host": "rebound.example"})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(stranger, timeout=30)
        logs = "".join(running.log(name).read_text() for name in SERVICES)
        assert not [secret for secret in PASSWORDS.values() if secret in logs]
        family = [process.pid for process in running.processes.values()]
    assert not [pid for pid in family if Path(f"/proc/{pid}").exists()]
