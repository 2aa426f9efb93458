"""Codec and operator trained as one: latents that are to be decoded, and to be stepped in time.

Shapes: B trajectories, T frames, S samples, C field channels, N tokens, D latent width, P coefficients.
"""

import torch
from torch import Tensor, nn

from ups.models.codec import Codec
from ups.models.operator import LatentOperator
from ups.models.rollout import step_map
from ups.training.codec import CodecObjective
from ups.training.loop import Progress
from ups.training.losses import Term, Terms, relative_square, relative_squares
from ups.training.sampling import probe


class JointModel(nn.Module):
    """A codec and an operator in its latents, as one model for the training loop."""

    def __init__(self, codec: Codec, operator: LatentOperator) -> None:
        super().__init__()
        self.codec, self.operator = codec, operator

    @torch.no_grad()
    def set_statistics(self, frames: Tensor) -> None:
        """Take mean and deviation of the present latents of some frames, (S, C, *space), as the operator's."""
        tokens = self.codec.encode(frames)
        self.operator.set_statistics(tokens.mean((0, 1)), tokens.std((0, 1)).clamp_min(1e-6))


class JointObjective:
    """Loss and validation of both.

    Terms: those of the codec, and `one_step`: mean over samples of MSE(decode(step(encode(u_t))), u_(t+1)) / mean(u^2),
    the square of the nRMSE of one step as it is forecast. Its gradient reaches encoder, operator and decoder.

    Latents change their scale while the codec learns, so the operator's is renewed at the start of every epoch.

    Args:
        codec: the codec's own loss; its samples are all frames of all trajectories, T of each.
        coefficients: of the training and of the validation trajectories, (B, P) each.
        frames: of every trajectory, T.
        weight: of `one_step`.
    """

    def __init__(self, codec: CodecObjective, coefficients: tuple[Tensor, Tensor], frames: int, weight: float) -> None:
        self.codec, self.frames, self.weight = codec, frames, weight
        self.train = (codec.train, codec.offset, coefficients[0])
        self.validation = (*codec.validation, coefficients[1])
        self._shown = probe(len(codec.train)).to(codec.train.device)
        self._epoch = -1

    def loss(self, model: JointModel, indices: Tensor, progress: Progress, generator: torch.Generator) -> Terms:
        if progress.epoch != self._epoch:
            self._epoch = progress.epoch
            model.set_statistics(self.train[0][self._shown])
        terms = self.codec.loss(model.codec, indices, progress, generator)
        predicted, target, offset = self._one_step(model, self.train, indices)
        return {**terms, "one_step": Term(relative_square(predicted + offset, target + offset), self.weight)}

    def validate(self, model: JointModel) -> dict[str, float]:
        """Return the codec's row, and the nRMSE of one decoded step on validation."""
        samples = probe(len(self.validation[0])).to(self.validation[0].device)
        predicted, target, offset = self._one_step(model, self.validation, samples)
        errors = relative_squares(predicted - target, target + offset).sqrt()
        return {**self.codec.validate(model.codec), "val_one_step_nrmse": float(errors.mean())}

    def _one_step(
        self, model: JointModel, data: tuple[Tensor, Tensor, Tensor], indices: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return predicted and true frames after the sampled ones, and their offset; a last frame stands for the one
        before it."""
        fields, offset, coefficients = data
        starts = indices - (indices % self.frames == self.frames - 1).long()
        rows = torch.div(starts, self.frames, rounding_mode="floor")
        step = step_map(model.operator.advance, model.codec)
        _, decoded, _ = step(model.codec.encode(fields[starts]), coefficients[rows])
        assert decoded is not None  # the map has a codec
        return decoded[:, 0], fields[starts + 1], offset[starts]
