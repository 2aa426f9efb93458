"""Which samples an update sees, and its random numbers: pure functions of (seed, update).

Nothing has to be stored to resume: update 731 draws the same samples whether or not the process was restarted before.
"""

import torch
from torch import Tensor

# Mixed into the seed so that shuffling and noise of one update are independent streams.
_SHUFFLE, _NOISE = 1, 2
_MAX_UPDATES = 10_000_000
PROBE = 1024  # samples looked at after each epoch: enough for a curve, little beside the training itself


class Shuffle:
    """Passes over `num_samples` samples, each in a fresh random order, cut into batches of `batch_size`.

    Args:
        num_samples: number of samples.
        batch_size: samples per update; may exceed `num_samples`.
        seed: seed of all orders.
    """

    def __init__(self, num_samples: int, batch_size: int, seed: int) -> None:
        if num_samples < 1:
            raise ValueError("there is no sample to draw from")
        self.num_samples, self.batch_size, self.seed = num_samples, batch_size, seed
        self._orders: dict[int, Tensor] = {}

    def indices(self, update: int) -> Tensor:
        """Return the sample indices of an update, shape (batch_size,), int64."""
        positions = torch.arange(update * self.batch_size, (update + 1) * self.batch_size)
        rounds = torch.div(positions, self.num_samples, rounding_mode="floor")
        result = torch.empty_like(positions)
        for number in rounds.unique().tolist():
            chosen = rounds == number
            result[chosen] = self._order(number)[positions[chosen] % self.num_samples]
        return result

    def _order(self, number: int) -> Tensor:
        if number not in self._orders:
            self._orders = {k: v for k, v in self._orders.items() if k == number - 1}
            generator = seeded(self.seed, _SHUFFLE, number)
            self._orders[number] = torch.randperm(self.num_samples, generator=generator)
        return self._orders[number]


def probe(num_samples: int, count: int = PROBE) -> Tensor:
    """Return a fixed random choice of at most `count` samples, the same after every epoch, (S,), int64.

    Random, because any regular stride through frames and trajectories favours some frames of all trajectories.
    """
    return torch.randperm(num_samples, generator=torch.Generator().manual_seed(0))[:count]


def noise_generator(seed: int, update: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return the generator of an update's random numbers (query points, tau, noise)."""
    return seeded(seed, _NOISE, update, device)


def seeded(seed: int, stream: int, index: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator for element `index` of an independent stream of `seed`."""
    return torch.Generator(device=device).manual_seed((seed * 4 + stream) * _MAX_UPDATES + index)
