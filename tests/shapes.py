"""Projects of any shape with trivial stages of a given length, for tests and benchmarks of plans and sweeps."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import standin
import yaml
from standin import ROOT

# Six stages in two shared and four of each variant: 2 + 8 x 4 = 34 distinct executions of 8 x 6 = 48.
SIX = {
    "prepare_data": [],
    "train_codec": ["prepare_data"],
    "train_operator": ["train_codec"],
    "train_diffusion": ["train_operator"],
    "distill": ["train_diffusion"],
    "evaluate": ["distill"],
}
# The real parameter that a variant of such a stage changes.
PARAMETER = {
    "train_codec": "train_codec.optimization.weight_decay",
    "train_operator": "train_operator.optimization.weight_decay",
    "train_diffusion": "train_diffusion.optimization.weight_decay",
    "distill": "distill.optimization.weight_decay",
}

_STAGE = """
import json, os, pathlib, sys, time
import yaml
import direct

name = sys.argv[1]
raw = yaml.safe_load(open("params/base.yaml"))
log = os.open(os.environ["EXECUTIONS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
os.write(log, f"{name} {os.getpid()} {time.time()}\\n".encode())
behaviour = os.environ.get(f"BEHAVIOUR_{name}", "") or raw["train_reward"].get("behaviour", "")
if behaviour == "fail":
    sys.exit(f"{name}: failing as asked")
# A tool that keeps all results in one folder says where this one goes, and makes the folder itself.
out = pathlib.Path(os.environ.get("OUT") or f"artifacts/{name}")
out.mkdir(parents=True, exist_ok="OUT" in os.environ)
time.sleep(float(os.environ.get("SECONDS_EACH", 0)))
if behaviour == "hang":
    (out / "half").write_text("half-written")
    time.sleep(600)
if behaviour == "writes nothing":
    out.rmdir()
    sys.exit(0)
if behaviour == "writes a dangling link":
    (out / "link").symlink_to("nowhere")
if behaviour == "writes no JSON":
    (out / "metrics.json").write_text('{"loss": 0.')
elif behaviour != "forgets":
    inputs = {path: open(path).read() for path in sys.argv[2:]}
    section = {key: raw[key] for key in (name, "seed")} | {"value": os.environ.get("VALUE")}
    (out / "metrics.json").write_text(json.dumps({"section": section, "of": inputs, "direct": direct.VALUE}))
record = {"stage": name, "started": time.time() - 1.0, "seconds": 0.5, "host": "h", "device": "cpu", "python": "3.11"}
(out / "provenance.json").write_text(json.dumps({**record, "versions": {}}))
"""


def make(folder: Path, upstream: dict[str, list[str]] | None = None, variants: dict[str, str] | None = None) -> Path:
    """Fill a folder with a project, git and DVC included.

    Args:
        folder: where.
        upstream: the stages and what each reads; `SIX` by default.
        variants: name -> the stage whose parameter it changes; eight of `train_operator` by default.
    """
    upstream = SIX if upstream is None else upstream
    variants = {f"v{i}": "train_operator" for i in range(8)} if variants is None else variants
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(ROOT / "params", folder / "params")
    (folder / "stage.py").write_text(_STAGE)
    (folder / "direct.py").write_text("from indirect import VALUE\n")
    (folder / "indirect.py").write_text("VALUE = 1\n")
    (folder / "README.md").write_text("unrelated\n")
    stages = {}
    for name, above in upstream.items():
        inputs = [f"artifacts/{other}/metrics.json" for other in above]
        stages[name] = {
            "cmd": " ".join(["python", "stage.py", name, *inputs]),
            "params": [{"params/base.yaml": [name, "seed"]}],
            "deps": ["stage.py", "direct.py", "indirect.py", *inputs],
            "outs": [f"artifacts/{name}"],
        }
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    for number, (name, stage) in enumerate(variants.items()):
        *sections, key = PARAMETER[stage].split(".")
        overlay: dict = {key: round(0.001 * (number + 1), 4)}
        for section in reversed(sections):
            overlay = {section: overlay}
        head = {"hypothesis": "None.", "varies": [PARAMETER[stage]]}
        (folder / "params/variants" / f"{name}.yaml").write_text(yaml.safe_dump({**head, **overlay}, sort_keys=False))
    (folder / "params/sweeps/all.yaml").write_text(yaml.safe_dump({"variants": list(variants), "seeds": [42]}))
    (folder / ".gitignore").write_text("/artifacts/\n/.ups/\n/mlflow.db\n/mlruns/\n/data/\n__pycache__/\n")
    (folder / ".dvc").mkdir()
    shutil.copy(ROOT / ".dvc" / "config", folder / ".dvc" / "config")
    (folder / ".dvc" / ".gitignore").write_text("/config.local\n/tmp\n/cache\n")
    standin.git(folder, "init", "-q")
    standin.git(folder, "add", ".")
    standin.git(folder, "commit", "-q", "-m", "shape")
    return folder


def environment(folder: Path, **more: str) -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, "PATH": path, "EXECUTIONS": str(folder.parent / f"{folder.name}.executions"), **more}


def start(folder: Path, *arguments: str, **more: str) -> subprocess.Popen[str]:
    """Start `ups` in a folder."""
    command = [sys.executable, "-c", "from ups.cli import main; main()", *arguments]
    return subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(folder, **more),
        start_new_session=True,
    )


def ups(folder: Path, *arguments: str, code: int = 0, **more: str) -> str:
    """Run `ups` in a folder; returns its standard output."""
    process = start(folder, *arguments, **more)
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, textwrap.shorten(f"{process.returncode}: {out} {err}", 4000)
    return out + err if code else out


def executed(folder: Path) -> list[str]:
    """Return the stages that were really started since the last call, by their own account."""
    log = folder.parent / f"{folder.name}.executions"
    names = [line.split()[0] for line in log.read_text().splitlines()] if log.exists() else []
    log.unlink(missing_ok=True)
    return names


def running(folder: Path) -> list[int]:
    """Return the stage processes of a project that are alive, by their own account."""
    log = folder.parent / f"{folder.name}.executions"
    pids = [int(line.split()[1]) for line in log.read_text().splitlines()] if log.exists() else []
    return [pid for pid in pids if _alive(pid)]


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def wait_for(condition, seconds: float = 20.0) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def kill(process: subprocess.Popen[str], number: int = signal.SIGKILL) -> None:
    process.send_signal(number)
