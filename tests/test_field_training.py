"""What the learned baseline is trained on."""

from dataclasses import replace

import pytest
import torch
from example_fields import advected_sines
from torch import nn

from ups.data.fields import Normalization
from ups.training.fields import FieldStepObjective
from ups.training.loop import Progress


class Constant(nn.Module):
    """Predicts a fixed value in normalised units."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, u, coefficients):
        return torch.full_like(u, self.value)


def test_loss_and_validation_are_those_of_physical_fields():
    """Predicting the physical zero everywhere errs by the field itself: an nRMSE of exactly 1, whatever the mean."""
    data = advected_sines(trajectories=6, frames=5, mean=0.7)
    normalization = Normalization(mean=(0.7,), std=(0.5,))
    data = replace(data, metadata=data.metadata.model_copy(update={"normalization": normalization}))
    objective = FieldStepObjective(data, data)
    zero = Constant(float(-objective.train[0].offset.flatten()[0]))
    terms = objective.loss(zero, torch.arange(len(objective)), Progress(0, 0, 1), torch.Generator())
    assert float(terms["relative_square"].value) == pytest.approx(1.0, rel=1e-5)
    assert objective.validate(zero) == pytest.approx({"train_loss": 1.0, "val_loss": 1.0}, rel=1e-5)


def test_each_sample_is_a_frame_and_its_successor():
    data = advected_sines(trajectories=4, frames=6)
    objective = FieldStepObjective(data, data)
    seen = {}

    class Watch(nn.Module):
        def forward(self, u, coefficients):
            seen["u"] = u
            return u

    objective.loss(Watch(), torch.tensor([0, 4, 5, 19]), Progress(0, 0, 1), torch.Generator())
    fields = objective.train[0].fields
    assert torch.equal(seen["u"], torch.stack([fields[0, 0], fields[0, 4], fields[1, 0], fields[3, 4]]))
    assert len(objective) == 20
