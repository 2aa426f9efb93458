"""A stage as a process: it succeeds as a whole, or says why in one paragraph and changes nothing."""

import contextlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import yaml
from small_surrogate import write_dataset

ROOT = Path(__file__).parents[1]

STAGE = """
    import sys
    from pathlib import Path
    from ups.parameters.section import Section
    from ups.stages.runner import main

    class Params(Section):
        seed: int

    def run(params, inputs, outputs):
        (outputs / "result.txt").write_text(str(params.seed))
        {body}
        return {{"value": {value}}}

    main("toy", Params, {inputs}, run)
"""


def toy(folder: Path, body: str = "pass", value: str = "1.0", inputs: str = "{}", **kwargs):
    (folder / "params").mkdir(exist_ok=True)
    if not (folder / "params" / "base.yaml").exists():
        (folder / "params" / "base.yaml").write_text("seed: 3\n")
    script = folder / "toy.py"
    script.write_text(textwrap.dedent(STAGE).format(body=body, value=value, inputs=inputs))
    return subprocess.run([sys.executable, script], cwd=folder, capture_output=True, text=True, timeout=120, **kwargs)


def result(folder: Path) -> str:
    return (folder / "artifacts" / "toy" / "result.txt").read_text()


def one_paragraph(process) -> str:
    assert process.returncode == 1
    text = process.stderr.strip()
    assert "Traceback" not in text
    assert "\n" not in text
    return text


def test_a_stage_writes_its_results_metrics_and_provenance(tmp_path):
    assert toy(tmp_path).returncode == 0
    assert result(tmp_path) == "3"
    folder = tmp_path / "artifacts" / "toy"
    assert json.loads((folder / "metrics.json").read_text()) == {"value": 1.0}
    record = json.loads((folder / "provenance.json").read_text())
    assert record["stage"] == "toy"
    assert record["versions"]["torch"] == "2.13.0+cpu" or record["versions"]["torch"].startswith("2.")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"body": "open('/dev/full', 'w', buffering=1).write('x\\n')"}, "No space left on device.*free some space"),
        ({"body": "raise OSError(30, 'Read-only file system', 'x')"}, "Read-only file system: x.*mounted read-only"),
        ({"body": "raise KeyboardInterrupt"}, "interrupted.*run the same command again"),
        ({"value": "float('nan')"}, "value is nan: a result must be a finite number"),
        ({"inputs": "{'x': 'artifacts/train_codec/model.safetensors'}"}, "made by the stage `train_codec`"),
        ({"inputs": "{'x': 'data/none.h5'}"}, "data/none.h5 does not exist.*data.path"),
    ],
)
def test_a_failing_stage_says_what_to_do_and_leaves_the_earlier_result(tmp_path, change, message):
    toy(tmp_path)
    (tmp_path / "params" / "base.yaml").write_text("seed: 4\n")
    text = one_paragraph(toy(tmp_path, **change))
    assert re.search(message, text), text
    assert result(tmp_path) == "3"
    assert [p.name for p in (tmp_path / "artifacts").iterdir()] == ["toy"]


def test_a_parameter_typo_names_the_key(tmp_path):
    toy(tmp_path)
    (tmp_path / "params" / "base.yaml").write_text("seed: yes please\n")
    assert "Parameter 'seed' = 'yes please'" in one_paragraph(toy(tmp_path))


def test_a_stage_that_is_terminated_leaves_nothing_half_written(tmp_path):
    toy(tmp_path)
    script = tmp_path / "toy.py"
    script.write_text(
        textwrap.dedent(STAGE).format(
            body="import time; print('up', flush=True); time.sleep(60)", value="1", inputs="{}"
        )
    )
    process = subprocess.Popen(
        [sys.executable, script], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGTERM)
    assert "interrupted" in process.communicate(timeout=30)[1]
    assert process.returncode == 1
    assert [p.name for p in (tmp_path / "artifacts").iterdir()] == ["toy"]
    assert result(tmp_path) == "3"


@pytest.fixture
def codec_project(tmp_path):
    """A project with a small data set, ready for train_codec."""
    parameters = yaml.safe_load((ROOT / "params" / "base.yaml").read_text())
    parameters["latent"].update(tokens=8, dim=4)
    parameters["compute"]["num_threads"] = 1
    parameters["train_codec"]["optimization"].update(
        epochs=20, updates_per_epoch=20, pairs_per_update=32, warmup_updates=5
    )
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "base.yaml").write_text(yaml.safe_dump(parameters))
    folder = tmp_path / "artifacts" / "prepare_data"
    folder.mkdir(parents=True)
    write_dataset(folder / "dataset.h5")
    return tmp_path


def train_codec(folder: Path, **kwargs) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "ups.stages.train_codec"],
        cwd=folder,
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **kwargs,
    )


def epochs_done(folder: Path) -> int:
    files = list((folder / "artifacts").glob(".train_codec.*.tmp/history.csv"))
    return len(files[0].read_text().splitlines()) - 1 if files else 0


def stopped_in_the_middle(folder: Path, weights: Path, how: signal.Signals, target: int) -> tuple[int, str]:
    """Send a signal once `target` epochs are done; again from the start if a loaded machine let the training end."""
    for _ in range(5):
        # A shell that runs the tests in the background has its children ignore Ctrl-C.
        process = train_codec(folder, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
        while epochs_done(folder) < target and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(how)
        error = process.communicate(timeout=120)[1]
        if process.returncode:
            return process.returncode, error
        weights.unlink()
    raise AssertionError("the training was over before the signal, five times")


def test_training_stopped_by_ctrl_c_or_killed_goes_on_at_the_last_epoch(codec_project):
    """Ctrl-C, then kill -9, then to the end: the weights equal those of a training that was left alone."""
    whole = train_codec(codec_project)
    assert whole.communicate(timeout=300)[1].count("epoch") == 20
    weights = codec_project / "artifacts" / "train_codec" / "model.safetensors"
    expected = weights.read_bytes()
    weights.unlink()
    for how, target in ((signal.SIGINT, 3), (signal.SIGKILL, 8)):
        code, error = stopped_in_the_middle(codec_project, weights, how, target)
        assert code == (1 if how == signal.SIGINT else -signal.SIGKILL)
        assert how == signal.SIGKILL or "interrupted" in error
        assert not weights.exists()
    last = train_codec(codec_project)
    error = last.communicate(timeout=300)[1]
    assert last.returncode == 0
    assert "resumed after epoch" in error
    assert "epoch 1/20" not in error
    assert weights.read_bytes() == expected
    assert not list((codec_project / ".ups" / "checkpoints").iterdir())
    assert [p.name for p in (codec_project / "artifacts").iterdir() if p.name.startswith(".")] == []


def helpers_of(folder: Path) -> list[str]:
    """Return the processes that work in a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if (entry / "cwd").resolve() == folder.resolve():
                    found.append(entry.name)
    return found


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="looks for processes in /proc")
def test_a_stage_trained_by_two_processes_is_killed_goes_on_and_leaves_one_result(codec_project):
    base = codec_project / "params" / "base.yaml"
    parameters = yaml.safe_load(base.read_text())
    parameters["compute"]["processes"] = 2
    base.write_text(yaml.safe_dump(parameters))
    weights = codec_project / "artifacts" / "train_codec" / "model.safetensors"
    code, _ = stopped_in_the_middle(codec_project, weights, signal.SIGKILL, 2)
    assert code == -signal.SIGKILL
    end = time.monotonic() + 60
    while helpers_of(codec_project) and time.monotonic() < end:
        time.sleep(0.05)
    assert helpers_of(codec_project) == []  # a helper ends when it hears nothing of its leader
    last = train_codec(codec_project)
    error = last.communicate(timeout=300)[1]
    assert last.returncode == 0, error
    assert "resumed after epoch" in error
    assert error.count("epoch 20/20") == 1  # only the leader reports
    assert weights.is_file()
    assert [p.name for p in (codec_project / "artifacts").iterdir() if p.name.startswith(".")] == []
    assert helpers_of(codec_project) == []


def test_a_full_disk_during_training_is_one_paragraph(codec_project):
    """A limit on the size of files stands for the full disk: the same writes fail in the same places."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    process = train_codec(codec_project, preexec_fn=limit)
    error = process.communicate(timeout=300)[1]
    assert process.returncode == 1
    assert "Traceback" not in error
    assert "cannot be written" in error or "too large" in error.lower()
    assert not (codec_project / "artifacts" / "train_codec").exists()
