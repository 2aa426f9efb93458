"""The assembled surrogate: its step maps, what it uses, and its bundle."""

from dataclasses import replace

import pytest
import torch
from small_surrogate import METADATA, write_models

import ups
from ups.errors import ArtifactError
from ups.inference.surrogate import load_surrogate
from ups.models.operator import LatentOperator
from ups.models.weights import WEIGHTS, load_model, save_skipped

U = torch.randn(3, 2, 1, 32, generator=torch.Generator().manual_seed(0))
C = torch.full((3, 1), 0.01)


@pytest.fixture
def folders(tmp_path):
    return write_models(tmp_path)


def forecasts(surrogate):
    return {mode: surrogate.forecaster(mode)(U, 3, C) for mode in surrogate.modes}


@pytest.mark.parametrize("choice", ["operator", "corrected", "student"])
def test_the_assembled_surrogate_is_what_was_chosen_and_its_bundle_holds_nothing_else(folders, tmp_path, choice):
    undecided = load_surrogate(**folders, metadata=METADATA)
    made = forecasts(replace(undecided, choice=choice))
    same = {mode for mode, frames in made.items() if torch.equal(frames, made["assembled"])}
    assert same - {"assembled", "zero_correction"} == {choice}
    assert undecided.choice == "operator"  # a corrector that nobody has tried is not used
    replace(undecided, choice=choice).reduced().save(tmp_path / "bundle")
    loaded = ups.load(tmp_path / "bundle").surrogate
    parts = {path.name for path in (tmp_path / "bundle").iterdir() if path.is_dir()}
    assert parts == {"codec", "operator"} | {"corrected": {"corrector"}, "student": {"student"}}.get(choice, set())
    assert torch.equal(loaded.forecaster()(U, 3, C), made["assembled"])
    for mode, part in (("corrected", "corrector"), ("student", "student")):
        if part not in parts:
            with pytest.raises(ArtifactError, match=f"no {part}.*does not pay"):
                loaded.forecaster(mode)


def test_the_zero_correction_is_the_operator_and_the_student_is_not(folders):
    made = forecasts(load_surrogate(**folders, metadata=METADATA))
    assert torch.equal(made["zero_correction"], made["operator"])
    assert not torch.equal(made["student"], made["operator"])


def test_skipped_stages_are_absent(folders):
    for part in ("corrector", "student"):
        save_skipped(folders[part], "0 epochs")
    surrogate = load_surrogate(**folders, metadata=METADATA)
    assert surrogate.modes == ("operator", "assembled")
    with pytest.raises(ArtifactError, match="no student"):
        surrogate.forecaster("student")


def test_a_forecast_depends_on_the_last_given_frame_only_and_rolls_on_by_itself(folders):
    surrogate = load_surrogate(**folders, metadata=METADATA)
    forecaster = surrogate.forecaster("operator")
    long = forecaster(U, 4, C)
    assert torch.equal(long, forecaster(U[:, 1:], 4, C))
    frames = list(surrogate.rollout(U[:, 1], C, 4, "operator"))
    assert torch.equal(torch.stack(frames, 1), long)
    # Free-running: the second frame does not come from decoding and encoding the first, nor from a true frame.
    observer, z = surrogate.start(U[:, 1])
    z = surrogate.operator(surrogate.operator(z, C), C)
    torch.testing.assert_close(surrogate.decode(z, observer, 2), long[:, 1])


def test_a_bundle_gives_the_same_numbers_somewhere_else(folders, tmp_path):
    surrogate = load_surrogate(**folders, metadata=METADATA)
    surrogate.save(tmp_path / "bundle")
    for folder in folders.values():
        (folder / WEIGHTS).unlink()
    moved = (tmp_path / "bundle").rename(tmp_path / "elsewhere")
    loaded = ups.load(moved)
    assert loaded.metadata == METADATA
    for mode, frames in forecasts(surrogate).items():
        assert torch.equal(loaded.surrogate.forecaster(mode)(U, 3, C), frames)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "model.safetensors").write_bytes(b"short"), "does not fit its config.json"),
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors does not exist"),
        (lambda folder: (folder / "config.json").write_text("{"), "not valid JSON"),
        (lambda folder: (folder / "config.json").write_text('{"class": "Codec"}'), "describes a 'Codec', but a 'Lat"),
    ],
)
def test_damaged_weights_are_refused_with_a_reason(folders, damage, message):
    damage(folders["operator"])
    with pytest.raises(ArtifactError, match=message):
        load_model(folders["operator"], LatentOperator)
