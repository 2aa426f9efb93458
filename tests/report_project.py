"""A project with the results of a made-up sweep: everything that a report reads, with a planted truth."""

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from recorded_runs import make_run, write_json
from standin import ROOT

from ups.evaluation.simulated_runs import Array, Spread, simulate
from ups.pipeline import executions, stages

SPREAD = Spread(seed_sd=0.05, trajectories=12)
MODELS = ("assembled", "corrected", "operator", "fno", "finite_volume_64")
MODES = ("base", "search")


def make_project(root: Path, effects: dict[str, float], seeds: int = 6, preset: str = "default") -> Path:
    """Write the results of variants whose true error differs from the first one's by a relative effect."""
    shutil.copytree(ROOT / "params", root / "params")
    shutil.copy(ROOT / "dvc.yaml", root / "dvc.yaml")
    generator = np.random.default_rng(0)
    for variant, effect in effects.items():
        errors, _ = simulate(SPREAD, seeds, generator, effect=effect, mean=0.02)
        for seed in range(seeds):
            make_result(root, variant, seed, errors[seed], preset)
    return root


def make_result(root: Path, variant: str, seed: int, errors: Array, preset: str = "default") -> Path:
    """Write one run as a sweep leaves it in `.ups/results/`."""
    suffix = "" if preset == "default" else f".{preset}"
    folder = root / ".ups" / "results" / f"{variant}-{seed}{suffix}"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        make_run(folder, variant, seed, errors)
        names = stages.stage_names()
    # Without the code's hashes, which no test of a report changes: reading them takes longer than all the rest.
    lock = yaml.safe_load((folder / "dvc.lock").read_text())
    for stage in lock["stages"].values():
        stage["deps"] = [entry for entry in stage["deps"] if not entry["path"].endswith(".py")]
    (folder / "dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False))
    record = {"variant": variant, "seed": seed, "preset": preset, "task": None, "key": "k", "snapshot": ""}
    fingerprints = {name: f"{name}-{'all' if name == 'simulate' else f'{variant}-{seed}'}" for name in names}
    write_json(folder / "result.json", {**record, "sweep": None, "varies": {"a.b": 1}, "fingerprints": fingerprints})
    _evaluation(folder / "artifacts", errors)
    _training(folder / "artifacts", seed)
    return folder


def _evaluation(artifacts: Path, errors: Array) -> None:
    rows, metrics, times = [], {}, []
    for rank, model in enumerate(MODELS):
        values = errors * (1.0 + 0.01 * rank)
        scores = {"seconds_per_trajectory": 0.002 * (rank + 1), "evaluations_per_trajectory": 31, "diverged": 0}
        for name in ("nrmse", "spectral_error_low", "spectral_error_mid", "spectral_error_high"):
            rows += [(model, at, name, value) for at, value in enumerate(values)]
        scores["nrmse"] = {"mean": float(values.mean()), "stderr": float(values.std(ddof=1) / len(values) ** 0.5)}
        metrics[model] = {"pdebench": scores}
        times += [(model, frame, 0.1 * frame, values.mean() * (1 + frame), 1e-4) for frame in range(1, 6)]
    candidate = {"cells": 64, "seconds_per_trajectory": 0.001, "nrmse": 0.01}
    choice = {"equal_cost": candidate, "equal_error": candidate, "candidates": [candidate]}
    metrics["finite_volume_choice"] = {**choice, "against": "assembled", "protocol": "pdebench"}
    metrics["trajectories"] = len(errors)
    metrics["assembly"] = {"assembled": "operator", "reason": "Rollouts of validation are worse with the corrector."}
    metrics["reconstruction"] = {"nrmse": {"mean": 1e-4, "stderr": 1e-5}}
    write_json(artifacts / "evaluate" / "metrics.json", metrics)
    _long(rows).to_parquet(artifacts / "evaluate" / "per_trajectory.parquet")
    table = pd.DataFrame(times, columns=["model", "frame", "time", "mean", "stderr"])
    table.assign(protocol="pdebench", metric="nrmse").to_csv(artifacts / "evaluate" / "error_vs_time.csv", index=False)
    search_values(artifacts, errors, errors, 20.0)


def search_values(artifacts: Path, base: Array, search: Array, cost: float) -> None:
    """Write the results of the test-time search: errors of both modes, and how many times the base it costs."""
    rows = [
        (mode, at, "nrmse", value) for mode, e in zip(MODES, (base, search), strict=True) for at, value in enumerate(e)
    ]
    _long(rows).to_parquet(artifacts / "evaluate_ttc" / "per_trajectory.parquet")
    times = {"base": 1.0, "search": cost}
    metrics = {
        mode: {
            "pdebench": {
                "nrmse": {"mean": 0.1},
                "seconds_per_trajectory": 0.01 * times[mode],
                "evaluations_per_trajectory": round(10 * times[mode]),
            }
        }
        for mode in MODES
    }
    verdict = {"recommended": False, "reason": "nothing gained"}
    write_json(artifacts / "evaluate_ttc" / "metrics.json", {**metrics, "verdict": verdict})


def _long(rows: list[tuple]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["model", "trajectory", "metric", "value"])
    return table.assign(protocol="pdebench", regime="all", horizon="full")


def _training(artifacts: Path, seed: int) -> None:
    history = "epoch,updates,train_loss,val_loss,val_zero_correction,grad_norm_max,seconds\n"
    history += "".join(f"{n},{10 * n},{1 / n},{1.2 / n + 0.001 * seed},1.0,3.0,{n}\n" for n in range(1, 9))
    for stage in ("train_codec", "train_operator", "train_diffusion"):
        (artifacts / stage / "history.csv").write_text(history)
    corrector = {"status": "trained", "train_loss": 0.5 + 0.01 * seed, "val_loss": 0.9, "zero_correction_loss": 1.0}
    gate = {"explained_residual": 0.1, "beats_zero_correction": True, "parameters": 12_592}
    write_json(artifacts / "train_diffusion" / "metrics.json", {**corrector, **gate})
    arguments = {"dim": 16, "hidden": 96, "depth": 3}
    write_json(artifacts / "train_diffusion" / "config.json", {"arguments": arguments})
    write_json(artifacts / "train_reward" / "metrics.json", {"status": "skipped", "reason": "epochs is 0"})
    split = {"samples": [0, 10], "largest_change_of_mean": 1e-4}
    metadata = {"equation": "burgers", "time_unit": "1", "units": ["1"]}
    write_json(artifacts / "prepare_data" / "audit.json", {"splits": {"train": split}, "metadata": metadata})


def log_execution(root: Path, stage: str, variant: str, seed: int, fingerprint: str, returncode: int = 0) -> None:
    """Add a line to the log of executions."""
    now = time.time()
    found = executions.Execution(stage, fingerprint, "key", variant, seed, now - 30.0, now, returncode, host="node1")
    with (root / executions.LOG).open("a") as log:
        log.write(json.dumps(vars(found)) + "\n")
