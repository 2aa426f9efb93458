"""The codec: grid encoder and local any-point decoder of a periodic field on a grid of any rank.

Shapes: B batch, C field channels, *space grid points along each of d axes (X on a line), N tokens, D latent width,
H hidden width, Q query points, K neighbouring tokens, R grid points per token. Fields are as `ups.data.reference_frame`
shows them: in normalised units, and in the comoving frame without their mean.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ups.errors import ParameterError
from ups.models.token_convolution import TokenConvolution
from ups.models.token_grid import Size, axes, neighbour_offsets, shifted, token_grid
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
        patches = _patches(u, self.shape)
        return self.linear(patches) + self.out(self.mix(self.lift(patches)))


class LocalDecoder(nn.Module):
    """Any point x -> field value, from the K tokens nearest to x, `neighbours` along each axis:

        u(x) = sum_k w(r_k) <b(r_k), h_k>,    r_k = (x - x_k) in widths of a token,    h = W z + V mix(U z),

    with b a small network on Fourier features of the relative coordinate r, and w a partition of unity (the product
    over axes of Hann windows `neighbours` tokens wide), so that u is continuous where the set of neighbours changes. On
    the grid the relative coordinates repeat under every token, and the sum is one matrix product (`on_grid`).

    A decoder that attends to all tokens from absolute coordinates needs many more parameters for the same error on
    a grid: see docs/log.md.
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
        if neighbours % 2 == 0 or not 3 <= neighbours <= min(shape):
            raise ParameterError(
                f"train_codec.decoder.neighbours = {neighbours} must be odd, at least 3 and at most the tokens along "
                f"each axis: latent.tokens = {math.prod(shape)} make {' x '.join(map(str, shape))}"
            )
        self.channels, self.shape, self.neighbours = channels, tuple(shape), neighbours
        rank = len(self.shape)
        self.offsets = neighbour_offsets(neighbours, rank)  # K
        self.skip = nn.Linear(dim, hidden)
        self.mix = nn.Sequential(*(TokenConvolution(hidden, 3, shape) for _ in range(depth - 1)))
        self.basis = nn.Sequential(
            nn.Linear(rank * (2 * frequencies + 1), hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, channels * hidden),
        )
        self.register_buffer("frequencies", torch.arange(1, frequencies + 1) * (2 * math.pi / neighbours))
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
        counts = torch.tensor(self.shape, device=x.device)
        position = x * counts  # ([B,] Q, d), in token widths
        offsets = torch.tensor(self.offsets, device=x.device)  # (K, d)
        nearest = position.floor()[..., None, :] + offsets  # ([B,] Q, K, d)
        basis = self._basis(position[..., None, :] - nearest - 0.5)  # ([B,] Q, K, C, H)
        places = nearest.long().remainder(counts)
        strides = [math.prod(self.shape[axis + 1 :]) for axis in range(len(self.shape))]
        index = (places * torch.tensor(strides, device=x.device)).sum(-1)  # ([B,] Q, K)
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
        return _from_patches(torch.einsum("rkch,bnkh->bcnr", basis, near), self.shape, points)

    @torch.no_grad()
    def keep_grid(self, points: Sequence[int]) -> None:
        """Compute the basis on the grid once and for all; only for a decoder whose weights no longer change.

        It is most of the work of decoding a single field.
        """
        self.grid_basis = self._on_grid(points)

    def _on_grid(self, points: Sequence[int]) -> Tensor:
        """Basis functions at the grid points under a token, relative to its neighbours: (R, K, C, H)."""
        device = self.frequencies.device
        sides = [count // tokens for count, tokens in zip(points, self.shape, strict=True)]
        lines = [(torch.arange(side, device=device) + 0.5) / side - 0.5 for side in sides]
        inside = torch.cartesian_prod(*lines).reshape(-1, len(sides))  # (R, d)
        return self._basis(inside[:, None] - torch.tensor(self.offsets, device=device))

    def _hidden(self, z: Tensor) -> Tensor:
        return self.mix(self.skip(z))

    def _basis(self, relative: Tensor) -> Tensor:
        """Windowed basis functions at relative coordinates in token widths: (..., d) -> (..., C, H)."""
        features, windows = [], []
        for along in relative.unbind(-1):
            phase = along[..., None] * self.frequencies
            scaled = along[..., None] * (2 / self.neighbours)
            features += [scaled, phase.sin(), phase.cos()]
            windows.append(torch.cos(along * (math.pi / self.neighbours)).square() * (2 / self.neighbours))
        values = self.basis(torch.cat(features, dim=-1))
        window = functools.reduce(torch.mul, windows)
        return (values * window[..., None]).unflatten(-1, (self.channels, -1))


def _patches(u: Tensor, shape: Sequence[int]) -> Tensor:
    """(B, C, *space) -> (B, N, C R): the values under each token."""
    rank = len(shape)
    for axis, tokens in enumerate(shape):
        u = u.unflatten(2 + 2 * axis, (tokens, -1))  # (B, C, t_0, r_0, t_1, r_1, ...)
    order = (0, *range(2, 2 + 2 * rank, 2), 1, *range(3, 3 + 2 * rank, 2))
    return u.permute(order).flatten(1 + rank).flatten(1, rank)


def _from_patches(values: Tensor, shape: Sequence[int], points: Sequence[int]) -> Tensor:
    """(B, C, N, R) -> (B, C, *points)."""
    rank = len(shape)
    sides = [count // tokens for count, tokens in zip(points, shape, strict=True)]
    folded = values.unflatten(3, tuple(sides)).unflatten(2, tuple(shape))
    order = (0, 1, *(axis for at in range(rank) for axis in (2 + at, 2 + rank + at)))
    return folded.permute(order).reshape(*values.shape[:2], *points)


class Codec(nn.Module):
    """Encoder and decoder of one field, on normalised values.

    Args:
        channels: field channels C.
        points: grid points of the training grid along each axis, or their number on a line.
        tokens, dim: size of the latent space.
        encoder: {hidden, depth, kernel}; decoder: {hidden, depth, neighbours, frequencies}.
        frame: frame of reference of the fields; in the comoving one, decoded fields have no mean.

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
        encoder: dict[str, int],
        decoder: dict[str, int],
        frame: Frame = "laboratory",
    ) -> None:
        super().__init__()
        self.points, self.frame = axes(points), frame
        self.encoder = GridEncoder(channels, self.points, tokens, dim, **encoder)
        self.decoder = LocalDecoder(channels, self.encoder.shape, dim, **decoder)

    def encode(self, u: Tensor) -> Tensor:
        """(B, C, *space) -> (B, N, D)."""
        return self.encoder(u)

    def decode(self, z: Tensor) -> Tensor:
        """(B, N, D) -> (B, C, *space) on the training grid."""
        field = self.decoder.on_grid(z, self.points)
        return field if self.frame == "laboratory" else field - field.mean(dim=-1, keepdim=True)

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
        return values - self.decoder.on_grid(z, self.points).mean(dim=-1, keepdim=True)
