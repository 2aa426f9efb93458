"""What the fields of a file are like: ranges, what is conserved, what decays, which wavenumbers hold it.

Shapes: B trajectories of a chunk, T frames, C channels, then space; K wavenumbers.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ups.data.progress import Progress
from ups.data.statistics import ChannelStatistics
from ups.evaluation.spectra import BANDS, power_spectrum
from ups.inspection.views import Array, View

_SHOWN = 10  # trajectories named where something is wrong with more


@dataclass
class Measurements:
    """Of the trajectories that were looked at.

    Attributes:
        looked_at: how many they are, evenly spaced over the file.
        nan, inf: values that are no numbers.
        damaged: how many of them hold such values; they count in nothing below, first frames excepted.
        damaged_numbers: the first of those.
        channels: name -> minimum, maximum, mean and standard deviation.
        mean_drift: channel -> largest |<u>(t) - <u>(0)| over the domain's mean <u>, in which trajectory, and its ratio
            to the channel's standard deviation. Zero but for rounding in a conserved quantity.
        energy: mean of u^2 / 2 at the last frame over that at the first (median, least, most over trajectories), and
            the largest growth between two frames, relative.
        spectrum: first and last frame -> band -> share of the fluctuations' energy (k = 0 left out).
        duplicates: trajectories whose first frame is, byte for byte, that of an earlier one; of the whole file.
        duplicate_pairs: the first of them, (number, the earlier one's number).
    """

    looked_at: int = 0
    nan: int = 0
    inf: int = 0
    damaged: int = 0
    damaged_numbers: list[int] = field(default_factory=list)
    channels: dict[str, dict[str, float]] = field(default_factory=dict)
    mean_drift: dict[str, dict[str, float]] = field(default_factory=dict)
    energy: dict[str, float] = field(default_factory=dict)
    spectrum: dict[str, dict[str, float]] = field(default_factory=dict)
    duplicates: int = 0
    duplicate_pairs: list[tuple[int, int]] = field(default_factory=list)


@dataclass
class Curves:
    """What the picture shows beside the fields.

    Attributes:
        energy: (T,) mean over trajectories of u^2 / 2.
        drift: (T,) largest |<u>(t) - <u>(0)| over trajectories and channels.
        spectra: first and last frame -> (K,) mean square per wavenumber, summed over channels.
    """

    energy: npt.NDArray[np.float64]
    drift: npt.NDArray[np.float64]
    spectra: Mapping[str, npt.NDArray[np.float64]]


def chosen(samples: int, wanted: int) -> list[int]:
    """Return the numbers of `wanted` trajectories, evenly spaced from the first to the last; all for 0."""
    if not wanted or wanted >= samples:
        return list(range(samples))
    return sorted({round(number) for number in np.linspace(0, samples - 1, wanted)})


def measure(view: View, numbers: Sequence[int]) -> tuple[Measurements, Curves]:
    """Read the trajectories of these numbers, a bounded amount at a time, and measure them."""
    found = Measurements(looked_at=len(numbers))
    running = _Running(view)
    with Progress("inspect", len(numbers), "trajectories") as progress:
        for part, fields in view.chunks(numbers):
            finite = np.isfinite(fields)
            if not finite.all():
                found.nan += int(np.isnan(fields).sum())
                found.inf += int(np.isinf(fields).sum())
                whole = np.asarray(finite.reshape(len(part), -1).all(axis=1))
                bad = [number for number, good in zip(part, whole, strict=True) if not good]
                found.damaged += len(bad)
                found.damaged_numbers += bad[: _SHOWN - len(found.damaged_numbers)]
                part, fields = [number for number in part if number not in bad], fields[whole]
            if len(part):
                running.update(part, fields)
            progress.update(len(finite))
    curves = running.finish(found)
    _count_duplicates(view, found)
    return found, curves


class _Running:
    """Sums over chunks."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._statistics = [ChannelStatistics() for _ in view.channels]
        self._count = 0
        self._energy = np.zeros(view.frames)
        self._drift = np.zeros((view.frames, len(view.channels)))
        self._worst = [0] * len(view.channels)
        self._ratios: list[npt.NDArray[np.float64]] = []
        self._growth = -np.inf
        self._spectra: dict[str, npt.NDArray[np.float64]] = {}

    def update(self, numbers: Sequence[int], fields: Array) -> None:
        space = tuple(range(3, fields.ndim))
        for channel, statistics in enumerate(self._statistics):
            statistics.update(fields[:, :, channel : channel + 1])
        means = fields.mean(axis=space, dtype=np.float64)  # (B, T, C)
        drift = np.abs(means - means[:, :1])
        for channel in range(drift.shape[2]):
            worst = int(drift[:, :, channel].max(axis=1).argmax())
            if drift[worst, :, channel].max() > self._drift[:, channel].max():
                self._worst[channel] = numbers[worst]
        self._drift = np.maximum(self._drift, drift.max(axis=0))
        energy = np.square(fields, dtype=np.float64).mean(axis=space).sum(axis=2) / 2  # (B, T)
        self._energy += energy.sum(axis=0)
        start = np.where(energy[:, :1] > 0, energy[:, :1], np.nan)
        self._ratios.append((energy[:, -1:] / start)[:, 0])
        if energy.shape[1] > 1:
            self._growth = max(self._growth, float(np.nanmax(np.diff(energy, axis=1) / start, initial=-np.inf)))
        ends = torch.from_numpy(np.stack([fields[:, 0], fields[:, -1]], axis=1)).double()
        power = power_spectrum(ends).sum(dim=2).sum(dim=0).numpy()  # (2, K)
        for name, values in zip(("first", "last"), power, strict=True):
            self._spectra[name] = self._spectra.get(name, 0) + values
        self._count += len(numbers)

    def finish(self, found: Measurements) -> Curves:
        if not self._count:
            return Curves(np.zeros(0), np.zeros(0), {})
        for name, statistics, drift, worst in zip(
            self._view.channels, self._statistics, self._drift.T, self._worst, strict=True
        ):
            std = float(statistics.std[0])
            limits = {"minimum": statistics.minimum, "maximum": statistics.maximum}
            found.channels[name] = {**limits, "mean": float(statistics.mean[0]), "std": std}
            if self._view.frames > 1:
                largest = float(drift.max())
                found.mean_drift[name] = {"largest": largest, "over_std": largest / std if std else 0.0}
                found.mean_drift[name]["trajectory"] = worst
        ratios = np.concatenate(self._ratios)
        if self._view.frames > 1 and np.isfinite(ratios).any():
            found.energy = {
                "median": float(np.nanmedian(ratios)),
                "least": float(np.nanmin(ratios)),
                "most": float(np.nanmax(ratios)),
                "largest_growth": self._growth,
            }
        spectra = {name: values / self._count for name, values in self._spectra.items()}
        found.spectrum = {name: shares(values) for name, values in spectra.items()}
        return Curves(self._energy / self._count, self._drift.max(axis=1), spectra)


def shares(spectrum: npt.NDArray[np.float64]) -> dict[str, float]:
    """Return the share of each band of wavenumbers in the fluctuations' energy, k = 0 left out."""
    total = float(spectrum[1:].sum())
    bands = {name: float(spectrum[max(first, 1) : end].sum()) for name, (first, end) in BANDS.items()}
    return {name: value / total if total else 0.0 for name, value in bands.items()}


def _count_duplicates(view: View, found: Measurements) -> None:
    seen: dict[bytes, int] = {}
    kinds: Counter[bytes] = Counter()
    for part, fields in view.chunks(range(view.samples), 1):
        for number, row in zip(part, fields, strict=True):
            digest = hashlib.blake2b((row + np.float32(0)).tobytes(), digest_size=16).digest()  # -0.0 equals 0.0
            if digest in seen and len(found.duplicate_pairs) < _SHOWN:
                found.duplicate_pairs.append((number, seen[digest]))
            seen.setdefault(digest, number)
            kinds[digest] += 1
    found.duplicates = sum(count - 1 for count in kinds.values())


def plain(found: Measurements) -> dict[str, Any]:
    """Return the measurements for JSON."""
    return {**vars(found), "duplicate_pairs": [list(pair) for pair in found.duplicate_pairs]}
