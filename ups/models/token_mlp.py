"""The correctors' network: a per-token SiLU MLP with options.

Shapes: B batch, N tokens, W width.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from ups.models.token_convolution import TokenConvolution


class Skip(nn.Module):
    """h + silu(W h + b): a hidden layer that adds to its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear, self.activation = nn.Linear(width, width), nn.SiLU()

    def forward(self, h: Tensor) -> Tensor:
        return h + self.activation(self.linear(h))


def token_mlp(
    inputs: int,
    outputs: int,
    hidden: int,
    depth: int,
    zero_init: bool,
    skip: bool = False,
    norm: bool = False,
    dropout: float = 0.0,
    mixing: int = 1,
    shape: Sequence[int] = (),
) -> nn.Sequential:
    """Return the network (B, N, inputs) -> (B, N, outputs).

    Args:
        inputs, outputs: numbers per token.
        hidden: width W.
        depth: number of linear layers, at least 2.
        zero_init: whether the untrained network returns zero.
        skip: whether each of the depth - 2 layers from hidden to hidden adds to its input.
        norm: whether a normalisation over W follows every hidden layer.
        dropout: share of hidden values dropped in training.
        mixing: odd number of neighbouring tokens that a residual convolution mixes after the first layer, which makes
            the network exactly what it is without until that convolution is trained; 1 leaves it out.
        shape: tokens along each axis of the domain; only mixing needs it.
    """
    layers: list[nn.Module] = []
    for layer in range(depth - 1):
        if layer and skip:
            layers.append(Skip(hidden))
        else:
            layers += [nn.Linear(hidden if layer else inputs, hidden), nn.SiLU()]
        if layer == 0 and mixing > 1:
            layers.append(TokenConvolution(hidden, mixing, shape))
        if norm:
            layers.append(nn.LayerNorm(hidden))
        if dropout:
            layers.append(nn.Dropout(dropout))
    last = nn.Linear(hidden, outputs)
    if zero_init:
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
    return nn.Sequential(*layers, last)
