"""Small Darcy problems with a codec that loses nothing, for tests of the steady prior."""

import dataclasses

import torch
from torch import nn

from ups.data.darcy import draw_media, solve_darcy
from ups.data.fields import FieldMetadata, Grid, Normalization, Trajectories
from ups.data.latents import Latents
from ups.data.reference_frame import ReferenceFrame
from ups.data.steady import as_pairs
from ups.models.token_grid import from_patches, patches

POINTS, SHAPE = 16, (4, 4)
DIM = 2 * (POINTS // 4) ** 2


class PatchCodec(nn.Module):
    """Tokens are the patches themselves."""

    frame = "laboratory"

    def encode(self, u):
        return patches(u, SHAPE)

    def decode(self, z):
        return from_patches(z.unflatten(-1, (2, -1)).transpose(1, 2), SHAPE, (POINTS, POINTS))


def problems(samples: int, start: int = 0, refinement: int = 1, force: float = 1.0) -> Trajectories:
    """Return Darcy samples (B, 1, 2, 16, 16), solved on `refinement` cells per point, with their own statistics."""
    media = draw_media(0, start, start + samples, POINTS, 1.0)
    solved = []
    for medium in media:
        fine = medium.repeat_interleave(refinement, 0).repeat_interleave(refinement, 1)
        u = torch.from_numpy(solve_darcy(fine.numpy(), force))
        solved.append(u.unflatten(0, (POINTS, -1)).unflatten(2, (POINTS, -1)).mean((1, 3)))
    fields = torch.stack([media, torch.stack(solved)], dim=1)[:, None].float()
    statistics = fields.transpose(0, 2).flatten(1)
    metadata = FieldMetadata(
        equation="darcy",
        channels=("a", "u"),
        units=("1", "1"),
        coefficients=("force",),
        grid=Grid(extent=(1.0, 1.0), points=(POINTS, POINTS), origin=(0.0, 0.0), periodic=(False, False)),
        dt=0.0,
        normalization=Normalization(mean=tuple(statistics.mean(1).tolist()), std=tuple(statistics.std(1).tolist())),
    )
    return Trajectories(fields, torch.full((samples, 1), force), torch.arange(start, start + samples), metadata)


def like(data: Trajectories, model: Trajectories) -> Trajectories:
    """Return samples with the statistics of another split."""
    return dataclasses.replace(data, metadata=model.metadata)


def encoded(data: Trajectories):
    """Return the latents of pairs, and the pairs as the codec sees them."""
    pairs = as_pairs(data)
    seen = ReferenceFrame("laboratory", pairs.metadata).observe(pairs.fields)
    tokens = PatchCodec().encode(seen.fields.flatten(0, 1)).unflatten(0, seen.fields.shape[:2])
    return Latents(tokens, pairs.coefficients, pairs.metadata, "codec"), seen
