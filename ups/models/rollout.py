"""The free-running rollout: the one place where predictions become the next inputs.

Shapes: B batch, F frames per call, N tokens, D latent width, P coefficients, C field channels, *space grid points.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ups.models.codec import Codec

# Tokens (B, N, D) and coefficients (B, P) -> the tokens of the next F frames, (B, F, N, D).
Advance = Callable[[Tensor, Tensor], Tensor]
# The same, followed by what they decode to, (B, F, C, *space) or None, and what the next call starts from, (B, N, D).
Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None, Tensor]]


def step_map(advance: Advance, codec: Codec | None, reencode: bool = False) -> Step:
    """Return what happens between two calls of a rollout as one function, which can be compiled as a whole.

    Args:
        advance: predicts the next frames.
        codec: decodes every frame; None decodes nothing.
        reencode: the next call starts from the encoding of the last decoded frame, not from its tokens.
    """
    if codec is None:
        if reencode:
            raise ValueError("to encode decoded frames anew takes a codec")

        def latent(z: Tensor, coefficients: Tensor) -> tuple[Tensor, None, Tensor]:
            tokens = advance(z, coefficients)
            return tokens, None, tokens[:, -1]

        return latent

    def decoding(z: Tensor, coefficients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        tokens = codec.conserve(z, advance(z, coefficients))
        decoded = codec.decode(tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2])
        return tokens, decoded, codec.encode(decoded[:, -1]) if reencode else tokens[:, -1]

    return decoding


def repeated(step: Step, times: int) -> Step:
    """Return `times` steps as one, which predicts that many times the frames."""

    def steps(z: Tensor, coefficients: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        tokens, decoded = [], []
        for _ in range(times):
            predicted, fields, z = step(z, coefficients)
            tokens.append(predicted)
            decoded.append(fields)
        known = [fields for fields in decoded if fields is not None]
        return torch.cat(tokens, dim=1), torch.cat(known, dim=1) if known else None, z

    return steps


def unroll(step: Step, z: Tensor, coefficients: Tensor, steps: int) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Yield predicted tokens (B, f, N, D) and what they decode to (B, f, C, *space), a call's f frames at a time.

    Args:
        step: from `step_map`.
        z: tokens to start from, (B, N, D).
        coefficients: of the equation, (B, P).
        steps: frames in all; the last call's surplus is cut off.
    """
    while steps > 0:
        tokens, decoded, z = step(z, coefficients)
        yield tokens[:, :steps], None if decoded is None else decoded[:, :steps]
        steps -= tokens.shape[1]
