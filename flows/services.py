"""The services of a working place: Prefect server and worker with the deployments, and the MLflow UI.

    make up       # start them on free loopback ports and print their addresses
    make down     # stop exactly those

State, logs and the server's database lie under `.ups/`. The server's address goes into `prefect.toml` (not in git):
there `prefect` finds it when it is called in the project's folder.
"""

from __future__ import annotations

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
from dataclasses import asdict
from pathlib import Path

import psutil

from ups import tracking
from ups.errors import UpsError
from ups.pipeline.services import FOLDER, RECORD, SETTINGS, Service, read

MARK = "# Written by `make up`, removed by `make down`.\n"
POOL = "local"
_STARTUP_SECONDS = 180
# What a person wants to see first; MLflow's own first page is about language models.
_PAGES = {"mlflow-ui": "/#/experiments", "prefect-server": "/dashboard"}


class ServiceError(UpsError):
    """A service did not start; the message names its log."""


def up() -> list[Service]:
    """Start what is not running, register the deployments, and return all services.

    Raises:
        ServiceError: if a service does not answer in time; what was started is stopped again.
    """
    running = [service for service in read() if service.process()]
    if len(running) == 3:
        return running
    down()
    if SETTINGS.exists():
        raise ServiceError(
            f"{SETTINGS} exists and was not written by `make up`, which would overwrite it. Move it away, or start "
            "your own services."
        )
    FOLDER.mkdir(parents=True, exist_ok=True)
    started: list[Service] = []
    try:
        prefect, mlflow = f"http://127.0.0.1:{_free_port()}", f"http://127.0.0.1:{_free_port()}"
        environment = _environment(f"{prefect}/api")
        started.append(
            _start("prefect-server", ["prefect", "server", "start", *_listen(prefect)], environment, prefect)
        )
        store = ["--backend-store-uri", tracking.store(), "--workers", "1"]
        started.append(_start("mlflow-ui", ["mlflow", "ui", *store, *_listen(mlflow)], environment, mlflow))
        _write(started)
        _wait(f"{prefect}/api/health", started[0])
        SETTINGS.write_text(f'{MARK}[api]\nurl = "{prefect}/api"\n', encoding="utf-8")
        _call(["prefect", "work-pool", "create", POOL, "--type", "process", "--overwrite"], environment)
        _call(["prefect", "--no-prompt", "deploy", "--all"], environment)
        started.append(_start("prefect-worker", ["prefect", "worker", "start", "--pool", POOL], environment, ""))
        _write(started)
        _wait(f"{mlflow}/health", started[1])
    except BaseException:
        _write(started)
        down()
        raise
    return started


def down() -> list[Service]:
    """Stop the services of this project, with all their children, and return those that were running."""
    stopped = [service for service in reversed(read()) if service.process()]
    for service in stopped:
        _stop(service)
    RECORD.unlink(missing_ok=True)
    if SETTINGS.is_file() and SETTINGS.read_text(encoding="utf-8").startswith(MARK):
        SETTINGS.unlink()
    return stopped


def address(name: str) -> str:
    """Return where a service of `make up` answers; empty if it is not running."""
    return next((service.address for service in read() if service.name == name and service.process()), "")


def _stop(service: Service, patience: float = 15.0) -> None:
    process = service.process()
    if process is None:
        return
    family = [process, *process.children(recursive=True)]
    with contextlib.suppress(ProcessLookupError):
        os.killpg(service.pid, signal.SIGTERM)
    _, alive = psutil.wait_procs(family, timeout=patience)
    for member in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    psutil.wait_procs(alive, timeout=5)


def _start(name: str, command: list[str], environment: dict[str, str], address: str) -> Service:
    with (FOLDER / f"{name}.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in the terminal is not meant for the services
        )
    return Service(name, process.pid, psutil.Process(process.pid).create_time(), address)


def _call(command: list[str], environment: dict[str, str]) -> None:
    result = subprocess.run(
        [sys.executable, "-m", *command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=_STARTUP_SECONDS,
        check=False,
    )
    if result.returncode:
        raise ServiceError(f"`{' '.join(command)}` failed: {(result.stderr or result.stdout).strip()[-600:]}")


def _wait(address: str, service: Service) -> None:
    deadline = time.monotonic() + _STARTUP_SECONDS
    log = FOLDER / f"{service.name}.log"
    while time.monotonic() < deadline:
        if service.process() is None:
            raise ServiceError(f"{service.name} ended while starting; its last words are in {log}.")
        with contextlib.suppress(urllib.error.URLError, OSError), urllib.request.urlopen(address, timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.5)
    raise ServiceError(f"{service.name} did not answer at {address} in {_STARTUP_SECONDS} s; see {log}.")


def _environment(api: str) -> dict[str, str]:
    environment = {**os.environ, "PREFECT_HOME": str((FOLDER / "prefect").absolute()), "PREFECT_API_URL": api}
    environment |= {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    environment["UPS_PROJECT"] = str(Path.cwd())  # prefect.yaml: where the worker finds the flows
    environment["MLFLOW_TRACKING_URI"] = tracking.store()
    # Set but empty it would switch authentication on.
    if not environment.get("PREFECT_SERVER_API_AUTH_STRING"):
        environment.pop("PREFECT_SERVER_API_AUTH_STRING", None)
    return environment


def _listen(address: str) -> list[str]:
    host, _, port = address.removeprefix("http://").rpartition(":")
    return ["--host", host, "--port", port]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _write(services: list[Service]) -> None:
    RECORD.write_text(json.dumps([asdict(service) for service in services], indent=2) + "\n", encoding="utf-8")


def main(arguments: list[str]) -> int:
    """`python -m flows.services up|down`."""
    try:
        if arguments == ["up"]:
            for service in up():
                page = service.address + _PAGES.get(service.name, "") if service.address else "running"
                print(f"{service.name:15s} {page}  (log: {FOLDER / (service.name + '.log')})")
            print("Start a run:    prefect deployment run experiment/local --watch")
            print("Start a sweep:  prefect deployment run ablation-sweep/local -p 'sweep=\"golden-vs-light\"' --watch")
        elif arguments == ["down"]:
            names = ", ".join(service.name for service in down())
            print(f"stopped: {names}" if names else "nothing was running")
        else:
            print("usage: python -m flows.services up|down", file=sys.stderr)
            return 2
    except UpsError as error:
        print(f"services: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
