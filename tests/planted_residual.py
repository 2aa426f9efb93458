"""A planted problem for correctors: latents whose step an untrained operator misses by a known residual."""

import torch

from ups.data.latents import Latents
from ups.models.operator import LatentOperator
from ups.parameters.section import Optimization
from ups.parameters.train_diffusion import TrainDiffusion
from ups.training.checkpoint import Checkpoint
from ups.training.history import History
from ups.training.loop import train
from ups.training.machine import Machine

TOKENS, DIM, FRAMES = 4, 3, 6


def operator() -> LatentOperator:
    """An untrained operator: it predicts that nothing changes."""
    torch.manual_seed(0)
    backbone = {
        "name": "pde_transformer",
        "hidden": 12,
        "depths": (1,),
        "group": 6,
        "heads": 2,
        "mlp_ratio": 2.0,
        "dropout": 0.0,
        "stem": 1,
    }
    return LatentOperator(TOKENS, DIM, 1, 0.05, backbone).requires_grad_(False)


def planted(rows: int, seed: int) -> Latents:
    """z(t + dt) = z + 0.2 tanh(z) + noise: the operator leaves a residual that a per-token network can learn."""
    generator = torch.Generator().manual_seed(seed)
    frames = [torch.randn(rows, TOKENS, DIM, generator=generator)]
    for _ in range(FRAMES - 1):
        z = frames[-1]
        frames.append(z + 0.2 * z.tanh() + 0.02 * torch.randn(z.shape, generator=generator))
    return Latents(torch.stack(frames, 1), torch.full((rows, 1), 0.01), None, "")


def gaussian(rows: int, seed: int, mean: float, std: float) -> Latents:
    """z(t + dt) = z + mean + std eps: the residual is Gaussian and independent of the prediction."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(rows, 1, TOKENS, DIM, generator=generator)
    steps = mean + std * torch.randn(rows, FRAMES - 1, TOKENS, DIM, generator=generator)
    frames = torch.cat([start, start + steps.cumsum(1)], dim=1)
    return Latents(frames, torch.full((rows, 1), 0.01), None, "")


def settings(**changes) -> TrainDiffusion:
    """Parameters of a small corrector; the objective `residual` by default."""
    base = {
        "objective": {"name": "residual"},
        "hidden": 32,
        "depth": 3,
        "skip": False,
        "norm": False,
        "dropout": 0.0,
        "mixing": 1,
        "zero_init": True,
        "standardize_residual": True,
        "tau": {"name": "beta", "alpha": 1.2, "beta": 1.2},
        "tau_weight": {"name": "constant"},
        "tau_bins": 4,
        "losses": {"spectral": 0.05, "relative": 0.0, "decoded": 0.0},
        "optimization": {"epochs": 1, "updates_per_epoch": 1, "pairs_per_update": 4, "learning_rate": 1e-3},
    }
    return TrainDiffusion.model_validate({**base, **changes})


def fit(model, objective, folder, name, updates=150, rate=3e-3, samples=64 * (FRAMES - 1), **options):
    optimization = {"epochs": 3, "updates_per_epoch": updates // 3, "pairs_per_update": 64, "learning_rate": rate}
    return train(
        model,
        objective.loss,
        objective.validate,
        samples,
        Optimization(**{**optimization, **options}),
        seed=0,
        machine=Machine(torch.device("cpu")),
        history=History(folder / f"{name}.csv"),
        checkpoint=Checkpoint(name, "key", folder),
        label=name,
    )
