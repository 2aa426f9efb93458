"""The services of compose.yaml without a container engine: the same commands, settings and order, on loopback.

    python docker/by_hand.py                      # until Ctrl-C
    python docker/by_hand.py -- COMMAND [ARG ...] # run a command against them, then stop; its exit code is returned

Needs PostgreSQL's programs on the PATH (`initdb`, `postgres`, `psql`, `pg_isready`; Debian: apt install postgresql,
then /usr/lib/postgresql/*/bin) and what docker/requirements.txt pins. Commands, environment, health checks and what
waits for what are read from compose.yaml. Only what a container engine does itself is replaced: service names and ports
by 127.0.0.1 and free ports, volumes by folders, users by whoever calls. Everything lies in a temporary folder that is
removed at the end, so every start is a first start.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

COMPOSE = Path(__file__).with_name("compose.yaml")
PASSWORDS = ("POSTGRES_PASSWORD", "MLFLOW_DB_PASSWORD", "PREFECT_DB_PASSWORD")
PATIENCE_S = 240.0
# PostgreSQL and the files it owns; it refuses to run as root.
DATABASE, DATABASE_USER = "postgres", "postgres"


class ByHandError(Exception):
    """Something is missing or a service did not start; the message says what to do."""


def interpolate(text: str, environment: Mapping[str, str]) -> str:
    """Return a text with Compose's `${NAME:-default}` and `${NAME:?message}` filled in.

    Raises:
        ByHandError: if a variable that has to be set is absent or empty.
    """

    def value(found: re.Match[str]) -> str:
        name, rule, rest = found.group(1), found.group(2), found.group(3) or ""
        if environment.get(name):
            return environment[name]
        if rule == ":?":
            raise ByHandError(f"{name} {rest}")
        return rest

    return re.sub(r"\$\{(\w+)(?:(:[-?])([^}]*))?\}", value, text)


def read(environment: Mapping[str, str], path: Path = COMPOSE) -> dict[str, Any]:
    """Return a Compose file with its variables filled in and its merge keys resolved."""

    def fill(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: fill(item) for key, item in value.items()}
        if isinstance(value, list):
            return [fill(item) for item in value]
        return interpolate(value, environment) if isinstance(value, str) else value

    content: dict[str, Any] = fill(yaml.safe_load(path.read_text(encoding="utf-8")))
    return content


def ports_inside(service: Mapping[str, Any]) -> list[str]:
    """Return the ports that a service listens on in its container."""
    published = [str(port).rpartition(":")[2] for port in service.get("ports", [])]
    checked = re.findall(r"127\.0\.0\.1:(\d+)", " ".join(service["healthcheck"]["test"]))
    return list(dict.fromkeys([*published, *map(str, service.get("expose", [])), *checked]))


@dataclass
class Place:
    """Where the services are on this machine instead of in containers.

    Attributes:
        folder: for volumes, homes and logs.
        ports: port on this machine by (service, port inside).
        volumes: (path inside, path here) by service.
    """

    folder: Path
    ports: dict[tuple[str, str], str]
    volumes: dict[str, list[tuple[str, Path]]]

    def here(self, service: str, text: str) -> str:
        """Return a word of a service's command or environment as it has to be on this machine."""
        for (name, inside), port in self.ports.items():
            text = re.sub(rf"\b{re.escape(name)}:{inside}\b", f"127.0.0.1:{port}", text)
            if name == service:
                text = re.sub(rf"\b127\.0\.0\.1:{inside}\b", f"127.0.0.1:{port}", text)
                text = re.sub(rf"^((?:--port=)?){inside}$", rf"\g<1>{port}", text)
        for inside, path in self.volumes[service]:
            text = re.sub(rf"(?<![\w.]){re.escape(inside)}(?![\w-])", str(path), text)
        return text.replace("0.0.0.0", "127.0.0.1")


@dataclass
class Services:
    """The running services.

    Attributes:
        compose: the Compose file as it is in use.
        place: where they are.
        processes: by service; PostgreSQL's is its postmaster.
    """

    compose: dict[str, Any]
    place: Place
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def address(self, service: str) -> str:
        """Return host and port of a service."""
        inside = ports_inside(self.compose["services"][service])[0]
        return f"127.0.0.1:{self.place.ports[service, inside]}"

    def environment(self, service: str) -> dict[str, str]:
        """Return the environment of a service: as in its container, nothing of the caller's but the path."""
        home = self.place.folder / "home" / service
        home.mkdir(parents=True, exist_ok=True)
        settings = self.compose["services"][service].get("environment", {})
        here = {key: self.place.here(service, value) for key, value in settings.items()}
        return {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", **here}

    def start(self) -> None:
        """Start all services, each when those that it waits for are healthy.

        Raises:
            ByHandError: if a service ends or is not healthy in time; the message names its log.
        """
        waiting = dict(self.compose["services"])
        while waiting:
            ready = [name for name in waiting if not set(waiting[name].get("depends_on", {})) & set(waiting)]
            for name in ready:
                for needed in waiting[name].get("depends_on", {}):
                    self._wait(needed)
                self._start(name)
            for name in ready:
                del waiting[name]
        for name in self.processes:
            self._wait(name)

    def stop(self) -> None:
        """Stop all services and what they started, the last one first."""
        for name, process in reversed(self.processes.items()):
            with contextlib.suppress(ProcessLookupError):
                # PostgreSQL's SIGINT ends sessions at once; SIGTERM would wait for them.
                os.killpg(process.pid, signal.SIGINT if name == DATABASE else signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def log(self, service: str) -> Path:
        return self.place.folder / f"{service}.log"

    def _start(self, name: str) -> None:
        service = self.compose["services"][name]
        if name == DATABASE:
            self.processes[name] = self._start_database(service)
            return
        command = [self.place.here(name, word) for word in service["command"]]
        folder = self.place.here(name, service["working_dir"]) if "working_dir" in service else self.place.folder
        self.processes[name] = self._run(name, command, self.environment(name), Path(folder))

    def _start_database(self, service: Mapping[str, Any]) -> subprocess.Popen[bytes]:
        """Do what the image of PostgreSQL does on an empty volume: initdb, server, init script."""
        environment, port = self.environment(DATABASE), self.address(DATABASE).rpartition(":")[2]
        data, user = self.place.volumes[DATABASE][0][1], environment["POSTGRES_USER"]
        socket_folder, password = data.parent / "socket", data.parent / "password"
        socket_folder.mkdir()
        password.touch(0o600)
        password.write_text(environment["POSTGRES_PASSWORD"], encoding="utf-8")
        if os.geteuid() == 0:
            for path in (data, socket_folder, password):
                shutil.chown(path, DATABASE_USER, DATABASE_USER)
        # As the image does: passwords over TCP, none on the socket in the container.
        access = ["--auth-host=scram-sha-256", "--auth-local=trust", f"--pwfile={password}"]
        initdb = ["initdb", "--pgdata", str(data), "--username", user, "--encoding=UTF8", "--no-sync", *access]
        self._finish(self._run(DATABASE, initdb, environment, data), initdb)
        password.unlink()
        server = ["postgres", "-D", str(data), "-h", "127.0.0.1", "-p", port, "-k", str(socket_folder)]
        process = self._run(DATABASE, server, environment, data)
        self.processes[DATABASE] = process
        self._wait(DATABASE)
        script = [str(path) for inside, path in self.place.volumes[DATABASE] if "docker-entrypoint-initdb.d" in inside]
        environment |= {"PGHOST": str(socket_folder), "PGPORT": port}
        self._finish(self._run(DATABASE, ["bash", *script], environment, self.place.folder), script)
        return process

    def _finish(self, process: subprocess.Popen[bytes], command: Sequence[str]) -> None:
        if process.wait():
            raise ByHandError(f"`{' '.join(command)}` failed: {_tail(self.log(DATABASE))}")

    def _run(self, name: str, command: list[str], environment: dict[str, str], folder: Path) -> subprocess.Popen[bytes]:
        if shutil.which(command[0], path=environment["PATH"]) is None:
            raise ByHandError(f"`{command[0]}` of the service {name} is not on the PATH; see the top of {__file__}.")
        other_user = name == DATABASE and os.geteuid() == 0
        with self.log(name).open("ab") as log:
            return subprocess.Popen(
                command,
                env=environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=DATABASE_USER if other_user else None,
                group=DATABASE_USER if other_user else None,
                extra_groups=[] if other_user else None,
            )

    def _wait(self, name: str) -> None:
        """Wait until the health check of compose.yaml passes."""
        kind, *test = self.compose["services"][name]["healthcheck"]["test"]
        if kind != "CMD":
            raise ByHandError(f"The health check of {name} is of the kind {kind}; only CMD is known here.")
        command, environment = [self.place.here(name, word) for word in test], self.environment(name)
        deadline = time.monotonic() + PATIENCE_S
        while subprocess.run(command, env=environment, capture_output=True, check=False).returncode:
            if self.processes[name].poll() is not None:
                raise ByHandError(f"{name} ended while starting: {_tail(self.log(name))}")
            if time.monotonic() > deadline:
                raise ByHandError(f"{name} is not healthy after {PATIENCE_S:.0f} s: {_tail(self.log(name))}")
            time.sleep(0.5)


@contextlib.contextmanager
def services(project: Path, only: Sequence[str] = (), variables: Mapping[str, str] | None = None) -> Iterator[Services]:
    """Run the services of compose.yaml and stop them at the end.

    Args:
        project: the folder that the worker's container would have mounted.
        only: names of the services to start, with none left out that one of them waits for; all by default.
        variables: values for the variables of compose.yaml; passwords and ports that are absent are made up.
    """
    with tempfile.TemporaryDirectory(prefix="ups-by-hand-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # PostgreSQL's user passes through
        free = [str(port) for port in _free_ports(16)]
        given = {password: secrets.token_hex(24) for password in PASSWORDS}
        given |= {"MLFLOW_PORT": free.pop(), "PREFECT_PORT": free.pop()}
        compose = read({**given, **(variables or {})})
        compose["services"] = {key: value for key, value in compose["services"].items() if not only or key in only}
        ports, volumes = {}, {}
        for key, service in compose["services"].items():
            published = {word.rpartition(":")[2]: word.split(":")[-2] for word in service.get("ports", [])}
            for inside in ports_inside(service):
                ports[key, inside] = published.get(inside) or free.pop()
            volumes[key] = [_volume(word, folder, project) for word in service.get("volumes", [])]
        running = Services(compose, Place(folder, ports, volumes))
        try:
            running.start()
            yield running
        finally:
            running.stop()


def _volume(text: str, folder: Path, project: Path) -> tuple[str, Path]:
    source, target = text.split(":")[:2]
    if source == "..":
        return target, project
    if source.startswith("."):
        return target, (COMPOSE.parent / source).resolve()
    path = folder / "volumes" / source
    path.mkdir(parents=True)
    return target, path


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def _tail(path: Path, size: int = 1500) -> str:
    return f"{path}: ...{path.read_text(encoding='utf-8', errors='replace')[-size:]}" if path.exists() else str(path)


def main(arguments: list[str]) -> int:
    """`python docker/by_hand.py [-- COMMAND [ARG ...]]`."""
    if arguments and (arguments[0] != "--" or len(arguments) < 2):
        print("usage: python docker/by_hand.py [-- COMMAND [ARG ...]]", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    try:
        with services(COMPOSE.parents[1], variables=os.environ) as running:
            clients = {
                "MLFLOW_TRACKING_URI": f"http://{running.address('mlflow')}",
                "PREFECT_API_URL": f"http://{running.address('prefect-server')}/api",
            }
            print(*(f"{key}={value}" for key, value in clients.items()), f"logs={running.place.folder}", flush=True)
            if arguments:
                return subprocess.run(arguments[1:], env={**os.environ, **clients}, check=False).returncode
            signal.pause()
    except ByHandError as error:
        print(f"by_hand: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
