"""Folders of runs with everything that a comparison reads, made without running anything."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from standin import ROOT

from ups.evaluation.simulated_runs import Array
from ups.parameters.files import BASE, read_yaml
from ups.parameters.overlay import resolve
from ups.pipeline import stages
from ups.stages.provenance import PACKAGES

ENVIRONMENT = {"host": "node1", "device": "cpu (x86_64, 2 cores)", "python": "3.11.7"}
TRAINED = ("train_codec", "train_operator", "train_diffusion", "distill", "train_baseline")


def make_run(folder: Path, variant: str, seed: int, errors: Array | None = None, train_loss: float = 0.5) -> Path:
    """Write the record of one run: parameters, `dvc.lock`, provenance; with errors, its evaluation too.

    An artifact's hash follows from the parameters of its stage and from what the stage reads, as that of a
    deterministic stage does; the code's hashes are those of the files that are there. Call it in the repository.
    """
    params = resolve(read_yaml(ROOT / BASE), variant=variant, seed=seed)
    (folder / "params").mkdir(parents=True)
    (folder / BASE).write_text(yaml.safe_dump(params))
    lock, made = {}, {}
    for name in stages.stage_names():
        module = stages.read_stage(name)
        values = {key: _value(params, key) for key in module.params}
        inputs = {path.replace("${data.path}", params["data"]["path"]): "" for path in module.inputs}
        inputs = {path: md5([made[path.split("/")[1]], path]) for path in inputs}
        made[name] = md5([values, inputs])
        deps = {**inputs, **{path: md5(Path(path).read_text()) for path in module.code}}
        lock[name] = {
            "cmd": module.command,
            "deps": [{"path": path, "hash": "md5", "md5": value} for path, value in deps.items()],
            "params": {BASE.as_posix(): values},
            "outs": [{"path": module.output, "md5": md5([made[name], str(folder)]) + ".dir"}],
        }
        record = {"stage": name, "started": 1.0e9 + seed, "seconds": 10.0, "git_commit": "c", "git_dirty": False}
        write_json(
            folder / module.output / "provenance.json",
            {**record, **ENVIRONMENT, "versions": dict.fromkeys(PACKAGES, "1.0")},
        )
    (folder / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": lock}, sort_keys=False))
    if errors is not None:
        _evaluated(folder / "artifacts", errors, train_loss)
    return folder


def _evaluated(artifacts: Path, errors: Array, train_loss: float) -> None:
    table = pd.DataFrame({"trajectory": np.arange(len(errors)), "value": errors})
    columns = {"model": "assembled", "protocol": "pdebench", "regime": "all", "horizon": "full", "metric": "nrmse"}
    table.assign(**columns).to_parquet(artifacts / "evaluate" / "per_trajectory.parquet")
    cost = {"seconds_per_trajectory": 0.004, "evaluations_per_trajectory": 31}
    write_json(artifacts / "evaluate" / "metrics.json", {"assembled": {"pdebench": cost}})
    for name in TRAINED:
        status = {"status": "trained", "train_loss": train_loss}
        write_json(artifacts / name / "metrics.json", status)
        (artifacts / name / "history.csv").write_text("epoch,train_loss,seconds\n1,2.0,3.5\n2,0.5,7.0\n")


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def md5(content: object) -> str:
    return hashlib.md5(json.dumps(content, sort_keys=True).encode(), usedforsecurity=False).hexdigest()


def _value(params: dict, key: str) -> object:
    for part in key.split("."):
        params = params[part]
    return params
