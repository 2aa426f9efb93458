"""The codec: grid encoder and local any-point decoder of a 1-D periodic field.

Shapes: B batch, C field channels, X grid points, N tokens, D latent width, H hidden width, Q query points,
K neighbouring tokens, R = X / N grid points per token. Fields are as `ups.data.reference_frame` shows them: in
normalised units, and in the comoving frame without their mean.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ups.errors import ParameterError
from ups.models.token_convolution import TokenConvolution
from ups.parameters.shared import Frame


class GridEncoder(nn.Module):
    """Patches of the grid -> tokens: z = W p + V mix(U p), p the R values under a token.

    The linear path alone already spans all patches when D >= C R; the mixing path lets a token know its neighbours.

    Shapes: (B, C, X) -> (B, N, D).
    """

    def __init__(self, channels: int, points: int, tokens: int, dim: int, hidden: int, depth: int, kernel: int) -> None:
        super().__init__()
        if points % tokens:
            raise ParameterError(
                f"latent.tokens = {tokens} must divide the {points} grid points left after data.space_stride"
            )
        self.tokens = tokens
        patch = channels * points // tokens
        self.linear = nn.Linear(patch, dim)
        self.lift = nn.Linear(patch, hidden)
        self.mix = nn.Sequential(*(TokenConvolution(hidden, kernel) for _ in range(depth)))
        self.out = nn.Linear(hidden, dim, bias=False)
        nn.init.zeros_(self.out.weight)

    def forward(self, u: Tensor) -> Tensor:
        batch, channels, points = u.shape
        patches = u.reshape(batch, channels, self.tokens, points // self.tokens).transpose(1, 2).flatten(2)
        return self.linear(patches) + self.out(self.mix(self.lift(patches)))


class LocalDecoder(nn.Module):
    """Any point x -> field value, from the K tokens nearest to x:

        u(x) = sum_k w(r_k) <b(r_k), h_k>,    r_k = (x - x_k) N / extent,    h = W z + V mix(U z),

    with b a small network on Fourier features of the relative coordinate r, and w a partition of unity (a Hann
    window K tokens wide), so that u is continuous where the set of neighbours changes. On the grid the relative
    coordinates repeat under every token, and the sum is one matrix product (`on_grid`).

    A decoder that attends to all tokens from absolute coordinates needs many more parameters for the same error on
    a grid: see docs/log.md.
    """

    frequencies: Tensor
    grid_basis: Tensor | None

    def __init__(
        self, channels: int, tokens: int, dim: int, hidden: int, depth: int, neighbours: int, frequencies: int
    ) -> None:
        super().__init__()
        if neighbours % 2 == 0 or not 3 <= neighbours <= tokens:
            raise ParameterError(
                f"train_codec.decoder.neighbours = {neighbours} must be odd, at least 3 and at most latent.tokens = "
                f"{tokens}"
            )
        self.channels, self.tokens, self.neighbours = channels, tokens, neighbours
        self.skip = nn.Linear(dim, hidden)
        self.mix = nn.Sequential(*(TokenConvolution(hidden, 3) for _ in range(depth - 1)))
        self.basis = nn.Sequential(
            nn.Linear(2 * frequencies + 1, hidden),
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
            x: positions as fractions of the domain, in [0, 1), (Q,) or (B, Q).

        Returns:
            Field values, (B, C, Q).
        """
        h = self._hidden(z)
        position = x * self.tokens  # ([B,] Q), in token widths
        offsets = torch.arange(self.neighbours, device=x.device) - self.neighbours // 2
        nearest = position.floor()[..., None] + offsets  # ([B,] Q, K)
        basis = self._basis(position[..., None] - nearest - 0.5)  # ([B,] Q, K, C, H)
        index = nearest.long().remainder(self.tokens)
        if x.ndim == 1:  # the same points in every sample: one basis serves them all
            return torch.einsum("qkch,bqkh->bcq", basis, h[:, index])
        rows = torch.arange(z.shape[0], device=z.device)[:, None, None]
        return torch.einsum("bqkch,bqkh->bcq", basis, h[rows, index])

    def on_grid(self, z: Tensor, points: int) -> Tensor:
        """Decode at the cell centres of a regular grid; equals `forward` there, at a fraction of its cost.

        Args:
            z: tokens, (B, N, D).
            points: number of grid points, a multiple of N.

        Returns:
            Field values, (B, C, points).
        """
        h = self._hidden(z)
        basis = self._on_grid(points) if self.grid_basis is None else self.grid_basis
        half = self.neighbours // 2
        near = torch.stack([h.roll(-offset, dims=1) for offset in range(-half, half + 1)], dim=2)  # (B, N, K, H)
        return torch.einsum("rkch,bnkh->bcnr", basis, near).flatten(2)

    @torch.no_grad()
    def keep_grid(self, points: int) -> None:
        """Compute the basis on the grid once and for all; only for a decoder whose weights no longer change.

        It is most of the work of decoding a single field.
        """
        self.grid_basis = self._on_grid(points)

    def _on_grid(self, points: int) -> Tensor:
        """Basis functions at the grid points under a token, relative to its neighbours: (R, K, C, H)."""
        per_token, device = points // self.tokens, self.frequencies.device
        inside = (torch.arange(per_token, device=device) + 0.5) / per_token - 0.5  # (R,)
        offsets = torch.arange(self.neighbours, device=device) - self.neighbours // 2
        return self._basis(inside[:, None] - offsets)

    def _hidden(self, z: Tensor) -> Tensor:
        return self.mix(self.skip(z))

    def _basis(self, relative: Tensor) -> Tensor:
        """Windowed basis functions at relative coordinates in token widths: (...) -> (..., C, H)."""
        phase = relative[..., None] * self.frequencies
        scaled = relative[..., None] * (2 / self.neighbours)
        values = self.basis(torch.cat([scaled, phase.sin(), phase.cos()], dim=-1))
        window = torch.cos(relative * (math.pi / self.neighbours)).square() * (2 / self.neighbours)
        return (values * window[..., None]).unflatten(-1, (self.channels, -1))


class Codec(nn.Module):
    """Encoder and decoder of one field, on normalised values.

    Args:
        channels: field channels C.
        points: grid points X of the training grid.
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
        points: int,
        tokens: int,
        dim: int,
        encoder: dict[str, int],
        decoder: dict[str, int],
        frame: Frame = "laboratory",
    ) -> None:
        super().__init__()
        self.points, self.frame = points, frame
        self.encoder = GridEncoder(channels, points, tokens, dim, **encoder)
        self.decoder = LocalDecoder(channels, tokens, dim, **decoder)

    def encode(self, u: Tensor) -> Tensor:
        """(B, C, X) -> (B, N, D)."""
        return self.encoder(u)

    def decode(self, z: Tensor) -> Tensor:
        """(B, N, D) -> (B, C, X) on the training grid."""
        field = self.decoder.on_grid(z, self.points)
        return field if self.frame == "laboratory" else field - field.mean(dim=-1, keepdim=True)

    def keep_grid(self) -> Codec:
        """Prepare a trained codec for many decodings on the grid; returns it."""
        self.decoder.keep_grid(self.points)
        return self

    def decode_at(self, z: Tensor, x: Tensor) -> Tensor:
        """(B, N, D), positions (Q,) or (B, Q) as fractions of the domain -> (B, C, Q)."""
        values = self.decoder(z, x)
        if self.frame == "laboratory":
            return values
        return values - self.decoder.on_grid(z, self.points).mean(dim=-1, keepdim=True)
