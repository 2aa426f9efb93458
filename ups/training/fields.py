"""What a model that steps fields is trained on: single steps from true frames.

Shapes: B trajectories, T frames, C field channels, S samples.
"""

import torch
from torch import Tensor, nn

from ups.data.fields import Trajectories
from ups.data.reference_frame import Observed, ReferenceFrame
from ups.parameters.shared import Frame
from ups.training.loop import Progress
from ups.training.losses import Term, Terms, relative_square, relative_squares
from ups.training.sampling import probe


class FieldStepObjective:
    """Loss and validation of u(t + dt) = model(u(t), coefficients) on fields as `ReferenceFrame` shows them.

    Terms: `relative_square`, mean over samples of MSE / mean(u^2) of the physical field, the square of the nRMSE that
    forecasts are judged by.
    """

    def __init__(self, train: Trajectories, validation: Trajectories, frame: Frame = "laboratory") -> None:
        reference = ReferenceFrame(frame, train.metadata)
        self.train, self.validation = (
            (reference.observe(split.fields), split.coefficients) for split in (train, validation)
        )
        self.starts = train.num_frames - 1

    def __len__(self) -> int:
        return self.train[0].fields.shape[0] * self.starts

    def loss(self, model: nn.Module, indices: Tensor, progress: Progress, generator: torch.Generator) -> Terms:
        observed, coefficients = self.train
        fields, offset = observed.fields, observed.offset
        rows, frames = torch.div(indices, self.starts, rounding_mode="floor"), indices % self.starts
        predicted = model(fields[rows, frames], coefficients[rows])
        target = fields[rows, frames + 1]
        return {"relative_square": Term(relative_square(predicted + offset[rows], target + offset[rows]))}

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Return the one-step nRMSE on as many training as validation samples, the same in every epoch."""
        return {"train_loss": self._one_step(model, *self.train), "val_loss": self._one_step(model, *self.validation)}

    def _one_step(self, model: nn.Module, observed: Observed, coefficients: Tensor) -> float:
        fields = observed.fields
        samples = probe(len(fields) * self.starts)
        rows, frames = torch.div(samples, self.starts, rounding_mode="floor"), samples % self.starts
        target = fields[rows, frames + 1]
        error = model(fields[rows, frames], coefficients[rows]) - target
        return float(relative_squares(error, target + observed.offset[rows]).sqrt().mean())
