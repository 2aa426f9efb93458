"""Steady problems: what is given, and what is to be found.

A steady sample is stored as one frame with all its fields, a and u for Darcy. Models see it as a *pair* of frames: the
problem, in which the unknown fields are replaced by their mean over the training split, and the solution. Both frames
have all channels, so that one codec encodes both, with each channel in units of its own deviation, and a map from the
first to the second is what a time step is elsewhere.

Shapes: B samples, C channels, *space grid points.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ups.data.fields import FieldMetadata, Normalization, Trajectories
from ups.parameters.equations import EQUATIONS


def is_steady(metadata: FieldMetadata) -> bool:
    """Return whether the equation has no time in it."""
    return EQUATIONS[metadata.equation].steady


def unknown_channels(metadata: FieldMetadata) -> list[int]:
    """Return the positions of the channels that a solution consists of."""
    return list(EQUATIONS[metadata.equation].unknown)


def given_channels(metadata: FieldMetadata) -> list[int]:
    """Return the positions of the channels that pose the problem."""
    unknown = unknown_channels(metadata)
    return [at for at in range(len(metadata.channels)) if at not in unknown]


def problem_frame(given: Tensor, metadata: FieldMetadata) -> Tensor:
    """Return the frame that poses a problem: the unknown channels hold their training mean.

    Args:
        given: the given channels alone, (B, C_given, *space), physical: whoever calls this cannot leak a solution.
        metadata: of all channels.

    Returns:
        (B, C, *space), physical.
    """
    frame = given.new_empty(len(given), len(metadata.channels), *given.shape[2:])
    frame[:, given_channels(metadata)] = given
    for at in unknown_channels(metadata):
        frame[:, at] = metadata.normalization.mean[at]
    return frame


def as_pairs(data: Trajectories) -> Trajectories:
    """Return steady samples (B, 1, C, *space) as pairs of problem and solution, (B, 2, C, *space).

    Trajectories of other equations are returned as they are.
    """
    if not is_steady(data.metadata):
        return data
    solution = data.fields[:, -1]
    problem = problem_frame(solution[:, given_channels(data.metadata)], data.metadata)
    return replace(data, fields=torch.stack([problem, solution], dim=1))


def unknown_part(data: Trajectories) -> Trajectories:
    """Return the unknown fields alone, with the metadata that belong to them, (B, 1, C_unknown, *space)."""
    metadata, at = data.metadata, unknown_channels(data.metadata)
    statistics = metadata.normalization
    kept = metadata.model_copy(
        update={
            "channels": tuple(metadata.channels[c] for c in at),
            "units": tuple(metadata.units[c] for c in at),
            "normalization": Normalization(
                mean=tuple(statistics.mean[c] for c in at), std=tuple(statistics.std[c] for c in at)
            ),
        }
    )
    return Trajectories(data.fields[:, -1:, at], data.coefficients, data.index, kept)
