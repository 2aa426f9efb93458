"""What a model that steps fields is trained on: single steps from true frames.

Shapes: B trajectories, T frames, C field channels, S samples.
"""

import torch
from torch import Tensor, nn

from ups.data.fields import Trajectories
from ups.data.normalization import FieldNormalizer
from ups.training.loop import Progress
from ups.training.losses import Term, Terms, relative_square

PROBE = 1024  # samples looked at after each epoch


class FieldStepObjective:
    """Loss and validation of u(t + dt) = model(u(t), coefficients) on normalised fields.

    Terms: `relative_square`, mean over samples of MSE / mean(u^2) of the physical field, the square of the nRMSE that
    forecasts are judged by.
    """

    def __init__(self, train: Trajectories, validation: Trajectories) -> None:
        normalizer = FieldNormalizer(train.metadata, train.fields.device)
        self.offset = normalizer.mean / normalizer.std
        self.train = normalizer.normalize(train.fields), train.coefficients
        self.validation = normalizer.normalize(validation.fields), validation.coefficients
        self.starts = train.num_frames - 1

    def __len__(self) -> int:
        return self.train[0].shape[0] * self.starts

    def loss(self, model: nn.Module, indices: Tensor, progress: Progress, generator: torch.Generator) -> Terms:
        fields, coefficients = self.train
        rows, frames = torch.div(indices, self.starts, rounding_mode="floor"), indices % self.starts
        predicted = model(fields[rows, frames], coefficients[rows])
        return {
            "relative_square": Term(relative_square(predicted + self.offset, fields[rows, frames + 1] + self.offset))
        }

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Return the one-step nRMSE on as many training as validation samples, the same in every epoch."""
        return {"train_loss": self._one_step(model, *self.train), "val_loss": self._one_step(model, *self.validation)}

    def _one_step(self, model: nn.Module, fields: Tensor, coefficients: Tensor) -> float:
        samples = torch.randperm(len(fields) * self.starts, generator=torch.Generator().manual_seed(0))[:PROBE]
        rows, frames = torch.div(samples, self.starts, rounding_mode="floor"), samples % self.starts
        target = fields[rows, frames + 1]
        error = (model(fields[rows, frames], coefficients[rows]) - target).flatten(1).square().mean(1)
        return float((error / (target + self.offset).flatten(1).square().mean(1).clamp_min(1e-12)).sqrt().mean())
