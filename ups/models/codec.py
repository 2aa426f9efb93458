"""The codec of a periodic field on a grid of any rank, with the grid encoder and the local any-point decoder.

Shapes: B batch, C field channels, *space grid points along each of d axes (X on a line), N tokens, D latent width,
H hidden width, Q query points, K neighbouring tokens, R grid points per token. Fields are as `ups.data.reference_frame`
shows them, in normalised units.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ups.errors import ParameterError
from ups.models.global_decoder import GlobalDecoder
from ups.models.neighbourhood import (
    basis_network,
    check_neighbours,
    frequencies_of,
    inside_patch,
    nearest_tokens,
    relative_features,
)
from ups.models.point_encoder import PointEncoder
from ups.models.token_convolution import TokenConvolution
from ups.models.token_grid import Size, axes, from_patches, neighbour_offsets, patches, shifted, token_grid
from ups.parameters.shared import Frame


class GridEncoder(nn.Module):
    """Patches of the grid -> tokens: z = W p + V mix(U p), p the R values under a token.

    The linear path alone already spans all patches when D >= C R; the mixing path lets a token know its neighbours.

    Shapes: (B, C, *space) -> (B, N, D).
    """

    def __init__(
        self, channels: int, points: Sequence[int], tokens: int, dim: int, hidden: int, depth: int, kernel: int
    ) -> None:
        super().__init__()
        self.shape = token_grid(points, tokens)
        self.tokens = tokens
        patch = channels * math.prod(points) // tokens
        self.linear = nn.Linear(patch, dim)
        self.lift = nn.Linear(patch, hidden)
        self.mix = nn.Sequential(*(TokenConvolution(hidden, kernel, self.shape) for _ in range(depth)))
        self.out = nn.Linear(hidden, dim, bias=False)
        nn.init.zeros_(self.out.weight)

    def forward(self, u: Tensor) -> Tensor:
        p = patches(u, self.shape)
        return self.linear(p) + self.out(self.mix(self.lift(p)))


class LocalDecoder(nn.Module):
    """Any point x -> field value, from the K tokens nearest to x, `neighbours` along each axis:

        u(x) = sum_k w(r_k) <b(r_k), h_k>,    r_k = (x - x_k) in widths of a token,    h = W z + V mix(U z),

    with b a small network on Fourier features of the relative coordinate r, and w a partition of unity (the product
    over axes of Hann windows `neighbours` tokens wide), so that u is continuous where the set of neighbours changes. On
    the grid the relative coordinates repeat under every token, and the sum is one matrix product (`on_grid`).

    `GlobalDecoder` is the decoder that attends to all tokens from absolute coordinates.
    """

    frequencies: Tensor
    grid_basis: Tensor | None

    def __init__(
        self,
        channels: int,
        shape: Sequence[int],
        dim: int,
        hidden: int,
        depth: int,
        neighbours: int,
        frequencies: int,
    ) -> None:
        super().__init__()
        check_neighbours("train_codec.decoder.neighbours", neighbours, shape)
        self.channels, self.shape, self.neighbours = channels, tuple(shape), neighbours
        rank = len(self.shape)
        self.offsets = neighbour_offsets(neighbours, rank)  # K
        self.skip = nn.Linear(dim, hidden)
        self.mix = nn.Sequential(*(TokenConvolution(hidden, 3, shape) for _ in range(depth - 1)))
        self.basis = basis_network(rank, frequencies, hidden, channels * hidden)
        self.register_buffer("frequencies", frequencies_of(frequencies, neighbours))
        self.register_buffer("grid_basis", None, persistent=False)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """Decode at query points.

        Args:
            z: tokens, (B, N, D).
            x: positions as fractions of the domain, in [0, 1), (Q, d) or (B, Q, d).

        Returns:
            Field values, (B, C, Q).
        """
        h = self._hidden(z)
        relative, index = nearest_tokens(x, self.shape, self.offsets)  # ([B,] Q, K, d), ([B,] Q, K)
        basis = self._basis(relative)  # ([B,] Q, K, C, H)
        if x.ndim == 2:  # the same points in every sample: one basis serves them all
            return torch.einsum("qkch,bqkh->bcq", basis, h[:, index])
        rows = torch.arange(z.shape[0], device=z.device)[:, None, None]
        return torch.einsum("bqkch,bqkh->bcq", basis, h[rows, index])

    def on_grid(self, z: Tensor, points: Sequence[int]) -> Tensor:
        """Decode at the cell centres of a regular grid; equals `forward` there, at a fraction of its cost.

        Args:
            z: tokens, (B, N, D).
            points: grid points along each axis, multiples of the tokens there.

        Returns:
            Field values, (B, C, *points).
        """
        h = self._hidden(z)
        basis = self._on_grid(points) if self.grid_basis is None else self.grid_basis
        near = torch.stack([shifted(h, offset, self.shape) for offset in self.offsets], dim=2)  # (B, N, K, H)
        return from_patches(torch.einsum("rkch,bnkh->bcnr", basis, near), self.shape, points)

    @torch.no_grad()
    def keep_grid(self, points: Sequence[int]) -> None:
        """Compute the basis on the grid once and for all; only for a decoder whose weights no longer change.

        It is most of the work of decoding a single field.
        """
        self.grid_basis = self._on_grid(points)

    def _on_grid(self, points: Sequence[int]) -> Tensor:
        """Basis functions at the grid points under a token, relative to its neighbours: (R, K, C, H)."""
        inside = inside_patch(points, self.shape, self.frequencies)
        return self._basis(inside[:, None] - torch.tensor(self.offsets, device=inside.device))

    def _hidden(self, z: Tensor) -> Tensor:
        return self.mix(self.skip(z))

    def _basis(self, relative: Tensor) -> Tensor:
        """Windowed basis functions at relative coordinates in token widths: (..., d) -> (..., C, H)."""
        features, window = relative_features(relative, self.frequencies, self.neighbours)
        return (self.basis(features) * window[..., None]).unflatten(-1, (self.channels, -1))


ENCODERS: dict[str, type[nn.Module]] = {"grid": GridEncoder, "points": PointEncoder}
DECODERS: dict[str, type[nn.Module]] = {"local": LocalDecoder, "global": GlobalDecoder}


class Codec(nn.Module):
    """Encoder and decoder of one field, on normalised values.

    Args:
        channels: field channels C.
        points: grid points of the training grid along each axis, or their number on a line.
        tokens, dim: size of the latent space.
        encoder, decoder: `name` in `ENCODERS` and `DECODERS`, and the arguments of that class. Without a name, as in
            weights from before there were several: `grid` and `local`.
        frame: frame of reference of the fields. In the comoving one, which belongs to equations that conserve the
            mean, tokens carry it exactly: the first C of their D numbers, averaged over the tokens, are the field's
            mean, as encoded and as decoded, and `conserve` keeps it in a step.

    Raises:
        ParameterError: if tokens do not divide the grid or the neighbourhood does not fit the tokens.
    """

    COMPILED = ("encode", "decode", "decode_at")

    def __init__(
        self,
        channels: int,
        points: Size,
        tokens: int,
        dim: int,
        encoder: dict[str, Any],
        decoder: dict[str, Any],
        frame: Frame = "laboratory",
    ) -> None:
        super().__init__()
        self.channels, self.points, self.frame = channels, axes(points), frame
        encoder, decoder = dict(encoder), dict(decoder)
        encoder_class = ENCODERS[encoder.pop("name", "grid")]
        decoder_class = DECODERS[decoder.pop("name", "local")]
        self.encoder: Any = encoder_class(channels, self.points, tokens, dim, **encoder)
        self.decoder: Any = decoder_class(channels, self.encoder.shape, dim, **decoder)

    def encode(self, u: Tensor) -> Tensor:
        """(B, C, *space) -> (B, N, D)."""
        return self._carrying(self.encoder(u), u.flatten(2).mean(dim=-1))

    def encode_at(self, values: Tensor, x: Tensor, volumes: Tensor | None = None) -> Tensor:
        """Encode values at points of a cloud or a mesh: (B, C, Q) -> (B, N, D).

        Args:
            values: field values as the codec sees fields, (B, C, Q).
            x: their positions as fractions of the domain, (Q, d) or (B, Q, d), on a line (Q,) or (B, Q).
            volumes: of the cells that the points stand for, (Q,) or (B, Q), in any unit; without them, points count
                alike.

        Raises:
            ParameterError: if the encoder takes fields on its grid alone.
            DataError: if a token has no point near it.
        """
        if not isinstance(self.encoder, PointEncoder):
            raise ParameterError(
                "this codec's encoder takes fields on its grid alone; one with train_codec.encoder.name: points takes "
                "values at any points (variant point-encoder)"
            )
        weights = torch.ones_like(values[:, 0]) if volumes is None else volumes.expand(values.shape[0], -1)
        mean = (values * weights[:, None]).sum(dim=-1) / weights.sum(dim=-1, keepdim=True)
        return self._carrying(self.encoder.at(values, x[..., None] if len(self.points) == 1 else x, volumes), mean)

    def decode(self, z: Tensor) -> Tensor:
        """(B, N, D) -> (B, C, *space) on the training grid."""
        field = self.decoder.on_grid(z, self.points)
        return field if self.frame == "laboratory" else field + self._missing(z, field)[..., None]

    def keep_grid(self) -> Codec:
        """Prepare a trained codec for many decodings on the grid; returns it."""
        self.decoder.keep_grid(self.points)
        return self

    def decode_at(self, z: Tensor, x: Tensor) -> Tensor:
        """Tokens (B, N, D), positions as fractions of the domain -> (B, C, Q).

        Positions are (Q, d) or (B, Q, d), on a line without the last axis: (Q,) or (B, Q).
        """
        values = self.decoder(z, x[..., None] if len(self.points) == 1 else x)
        if self.frame == "laboratory":
            return values
        return values + self._missing(z, self.decoder.on_grid(z, self.points))[..., None]

    def conserve(self, z: Tensor, tokens: Tensor) -> Tensor:
        """Give predicted tokens (B, F, N, D) the mean that tokens (B, N, D) carry which they follow, if any do."""
        if self.frame == "laboratory":
            return tokens
        return self._carrying(tokens, z[:, None, :, : self.channels].mean(dim=-2))

    def _carrying(self, z: Tensor, mean: Tensor) -> Tensor:
        """Return tokens (..., N, D) that carry means (..., C) of fields."""
        if self.frame == "laboratory":
            return z
        shift = mean - z[..., : self.channels].mean(dim=-2)
        return z + F.pad(shift, (0, z.shape[-1] - self.channels))[..., None, :]

    def _missing(self, z: Tensor, field: Tensor) -> Tensor:
        """Return by how much the mean of a decoded field (B, C, X) falls short of what its tokens carry, (B, C)."""
        return z[..., : self.channels].mean(dim=-2) - field.mean(dim=-1)
