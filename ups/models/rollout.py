"""The free-running rollout: the one place where predictions become the next inputs.

Shapes: B batch, F frames per call, N tokens, D latent width, P coefficients, C field channels, X grid points.
"""

from collections.abc import Callable, Iterator

from torch import Tensor

from ups.models.codec import Codec

# Tokens (B, N, D) and coefficients (B, P) -> the tokens of the next F frames, (B, F, N, D).
Advance = Callable[[Tensor, Tensor], Tensor]


def unroll(
    advance: Advance, z: Tensor, coefficients: Tensor, steps: int, codec: Codec | None, reencode: bool = False
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Yield predicted tokens (B, f, N, D) and what they decode to (B, f, C, X), a call's f frames at a time.

    Args:
        advance: predicts the next frames.
        z: tokens to start from, (B, N, D).
        coefficients: of the equation, (B, P).
        steps: frames in all; the last call's surplus is cut off.
        codec: decodes every frame; None decodes nothing.
        reencode: start every call but the first from the encoding of the last decoded frame.
    """
    if reencode and codec is None:
        raise ValueError("to encode decoded frames anew takes a codec")
    while steps > 0:
        tokens = advance(z, coefficients)[:, :steps]
        steps -= tokens.shape[1]
        decoded = codec.decode(tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2]) if codec else None
        yield tokens, decoded
        if steps > 0:
            z = codec.encode(decoded[:, -1]) if reencode and codec and decoded is not None else tokens[:, -1]
