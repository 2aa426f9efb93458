"""A small DVC project with the real parameter files and trivial stages, for tests of what runs and publishes stages."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
STAGES = ("prepare_data", "train_operator", "train_diffusion", "evaluate")

# Each stage writes what the real ones write, and counts its executions outside of what DVC caches.
_STAGE = """
import json, pathlib, sys, time
import yaml

name = sys.argv[1]
raw = yaml.safe_load(open("params/base.yaml"))
with open("executions.txt", "a") as log:
    print(name, file=log)
if raw["train_reward"].get("fail") == name:
    sys.exit(f"{name}: failing as asked")
out = pathlib.Path("artifacts", name)
out.mkdir(parents=True)
(out / "metrics.json").write_text(json.dumps(METRICS[name]))
if name.startswith("train"):
    rate = float(raw[name]["optimization"]["learning_rate"])
    rows = "".join(f"{epoch},{rate / (epoch + 1)},\\n" for epoch in range(EPOCHS))
    (out / "history.csv").write_text("epoch,val_loss,not_measured\\n" + rows)
    (out / "model.safetensors").write_bytes(b"weights")
if name == "evaluate":
    (out / "figures").mkdir()
    (out / "figures" / "rollout.png").write_bytes(b"\\x89PNG not really")
    (out / "error_vs_time.csv").write_text("frame,mean\\n0,1\\n")
record = {"stage": name, "started": time.time(), "seconds": 0.5, "host": "h", "device": "cpu", "python": "3.11"}
(out / "provenance.json").write_text(json.dumps({**record, "versions": {"torch": "2.13.0"}}))
"""
_METRICS = {
    "prepare_data": {"frames": 41, "status": "done"},
    "train_operator": {"val_loss": 0.5, "gate": {"passed": True}},
    "train_diffusion": {"explained_residual": -0.25},
    "evaluate": {
        "operator": {
            "pdebench": {"nrmse": {"mean": 0.25, "stderr": 0.125}, "nrmse@h16": {"mean": 0.5, "stderr": None}}
        },
        "by_regime": {"viscosity=0.01": {"nrmse": 0.75}},
    },
}
_UPSTREAM = {
    "prepare_data": [],
    "train_operator": ["artifacts/prepare_data/metrics.json"],
    "train_diffusion": ["artifacts/train_operator/history.csv"],
    "evaluate": ["artifacts/train_operator/history.csv", "artifacts/train_diffusion/history.csv"],
}


def make(folder: Path, epochs: int = 3) -> Path:
    """Fill a folder with the project, git and DVC included."""
    shutil.copytree(ROOT / "params", folder / "params")
    code = f"METRICS = {_METRICS!r}\nEPOCHS = {epochs}\n{_STAGE}"
    (folder / "stage.py").write_text(code)
    lines = ["stages:"]
    for name, deps in _UPSTREAM.items():
        lines += [f"  {name}:", f"    cmd: python stage.py {name}", f"    params: [{{params/base.yaml: [{name}]}}]"]
        lines += [f"    deps: [{', '.join(['stage.py', *deps])}]", f"    outs: [artifacts/{name}]"]
    (folder / "dvc.yaml").write_text("\n".join(lines) + "\n")
    (folder / ".gitignore").write_text("/artifacts/\n/.ups/\n/mlflow.db\n/mlruns/\n/executions.txt\n")
    (folder / ".dvc").mkdir()
    shutil.copy(ROOT / ".dvc" / "config", folder / ".dvc" / "config")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "stand-in")
    return folder


def copy_repository(folder: Path) -> Path:
    """Fill a folder with this repository as it is, changed and new files included, as its one commit."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    (folder / "dvc.lock").unlink(missing_ok=True)
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "copy")
    return folder


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.invalid", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def git_output(folder: Path, *arguments: str) -> str:
    result = subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return result.stdout.strip()


def executed(folder: Path) -> list[str]:
    """Return the stages executed since the last call."""
    log = folder / "executions.txt"
    names = log.read_text().split() if log.exists() else []
    log.unlink(missing_ok=True)
    return names


def set_parameter(folder: Path, old: str, new: str) -> None:
    """Replace a piece of text that occurs once in `params/base.yaml`."""
    path = folder / "params" / "base.yaml"
    text = path.read_text()
    assert text.count(old) == 1, f"{old!r} occurs {text.count(old)} times"
    path.write_text(text.replace(old, new))


def ups(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command `ups` in a folder."""
    command = [sys.executable, "-c", "from ups.cli import main; main()", *arguments]
    return subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=1500,
        check=False,
    )
