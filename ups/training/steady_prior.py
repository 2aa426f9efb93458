"""What the steady prior is trained on: the solutions, from the encoded problems.

Shapes: B samples, N tokens, D latent width, K iterations, S samples of a batch, C channels, *space grid points.
"""

import torch
from torch import Tensor

from ups.data.latents import Latents
from ups.data.reference_frame import Observed
from ups.data.steady import unknown_channels
from ups.models.codec import Codec
from ups.models.steady_prior import SteadyPrior
from ups.parameters.train_steady_prior import TrainSteadyPrior
from ups.training.loop import Progress
from ups.training.losses import Term, Terms, mse, relative_square, relative_squares
from ups.training.sampling import probe


class SteadyObjective:
    """Loss and validation of the steady prior.

    Terms, each a mean over the iterates that are supervised:
        latent: MSE of standardised latents.
        decoded: MSE / mean(u^2) of the decoded unknown fields, the square of the nRMSE that solutions are judged by.

    Args:
        train, validation: latents of pairs, (B, 2, N, D): problem and solution.
        fields, held_out: the same pairs as the codec sees them.
        codec: frozen.
        settings: weights, and which iterates they act on.
    """

    def __init__(
        self,
        train: Latents,
        validation: Latents,
        fields: Observed,
        held_out: Observed,
        codec: Codec,
        settings: TrainSteadyPrior,
    ) -> None:
        self.train, self.validation = train, validation
        self.fields, self.held_out = fields, held_out
        self.codec, self.settings = codec, settings
        self.unknown = unknown_channels(train.metadata)

    def loss(self, prior: SteadyPrior, indices: Tensor, progress: Progress, generator: torch.Generator) -> Terms:
        weights, tokens = self.settings.losses, self.train.tokens[indices]
        iterates = prior.refine(tokens[:, 0], self.train.coefficients[indices])
        if self.settings.supervise == "last":
            iterates = iterates[:, -1:]
        terms = {}
        if weights.latent:
            target = prior.standardize(tokens[:, 1:]).expand_as(iterates)
            terms["latent"] = Term(mse(prior.standardize(iterates), target), weights.latent)
        if weights.decoded:
            found, truth = self._physical(iterates, self.fields, indices)
            terms["decoded"] = Term(relative_square(found, truth), weights.decoded)
        return terms

    def validate(self, prior: SteadyPrior) -> dict[str, float]:
        """Return the nRMSE of decoded solutions on as many training as validation samples.

        `val_first_nrmse` is that of the first iterate: what is left of it after all of them is what iterating gains.
        """
        count = len(probe(len(self.validation.tokens)))
        first, last = self.by_sample(prior, self.validation, self.held_out)
        _, known = self.by_sample(prior, self.train, self.fields, count)
        return {
            "train_loss": float(known.mean()),
            "val_loss": float(last.mean()),
            "val_first_nrmse": float(first.mean()),
        }

    def by_sample(
        self, prior: SteadyPrior, latents: Latents, observed: Observed, count: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the nRMSE of the first and the last iterate of each of `count` samples of a split, each (S,)."""
        rows = probe(len(latents.tokens)) if count is None else probe(len(latents.tokens), count)
        iterates = prior.refine(latents.tokens[rows, 0], latents.coefficients[rows])[:, [0, -1]]
        found, truth = self._physical(iterates, observed, rows)
        error = relative_squares(found - truth, truth, samples=2)
        first, last = error.sqrt().mean(1).unflatten(0, (len(rows), 2)).unbind(1)
        return first, last

    def _physical(self, iterates: Tensor, observed: Observed, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return decoded and true unknown fields of iterates (S, K, N, D), each (S K, C, *space), in units of std."""
        offset = observed.offset[rows][:, self.unknown].repeat_interleave(iterates.shape[1], dim=0)
        found = self.codec.decode(iterates.flatten(0, 1))[:, self.unknown]
        truth = observed.fields[rows, 1][:, self.unknown].repeat_interleave(iterates.shape[1], dim=0)
        return found + offset, truth + offset
