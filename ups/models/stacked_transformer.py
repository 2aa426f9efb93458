"""A plain stack of transformer blocks over a fixed set of tokens.

Beside `PdeTransformer` it merges no tokens, has no skips between resolutions, and its heads see all channels.

Shapes: B batch, N tokens, W width, D latent width, F frames.
"""

from torch import Tensor, nn

from ups.models.conditioning import block_features
from ups.models.pde_transformer import Block
from ups.models.token_grid import CONVOLUTIONS, Size, axes, from_grid, to_grid, wrap


class StackedTransformer(nn.Module):
    """Tokens -> increments of the tokens in each of the next frames; exactly zero at initialisation.

    Args:
        tokens: tokens along each axis, or their number on a line.
        dim: latent width.
        num_conditions: scalars the model is conditioned on (dt and the PDE coefficients).
        hidden: width W.
        depth: number of blocks, pre-norm attention and MLP.
        heads: attention heads, which divide W between them.
        mlp_ratio, dropout: see `Block`.
        drop_path: rate of `DropPath` in the last block; it rises linearly from 0 in the first.
        stem: odd number of tokens the embedding sees along each axis.
        frames: number F of increments.
        modulated: as in `PdeTransformer`.
        out_dim: width of the increments where it is not that of the tokens.
    """

    def __init__(
        self,
        tokens: Size,
        dim: int,
        num_conditions: int,
        hidden: int,
        depth: int,
        heads: int,
        mlp_ratio: float,
        dropout: float,
        drop_path: float,
        stem: int,
        frames: int = 1,
        modulated: bool = False,
        out_dim: int | None = None,
    ) -> None:
        super().__init__()
        self.shape, self.pad = axes(tokens), stem // 2
        self.embed_condition, width = block_features(num_conditions, modulated)
        self.embed = CONVOLUTIONS[len(self.shape)](dim, hidden, stem)
        rates = [drop_path * at / (depth - 1) for at in range(depth)] if depth > 1 else [drop_path]
        self.blocks = nn.ModuleList(
            Block(
                self.shape,
                width=hidden,
                group=hidden,
                heads=heads,
                mlp_ratio=mlp_ratio,
                dropout=dropout,
                condition=width,
                drop_path=rate,
            )
            for rate in rates
        )
        self.norm = nn.LayerNorm(hidden)
        self.head = nn.Linear(hidden, frames * (out_dim or dim))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        """Return f(z, condition): (B, N, D), (B, num_conditions) -> (B, N, F D)."""
        features = self.embed_condition(condition)
        x = from_grid(self.embed(wrap(to_grid(z, self.shape), self.pad)))
        for block in self.blocks:
            x = block(x, features)
        return self.head(self.norm(x))
