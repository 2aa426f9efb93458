"""The discrete residual against exact solutions, and the operator's loss made of it."""

import itertools
import math

import pytest
import torch
from exact_burgers import closed_form
from small_surrogate import CODEC, METADATA, OPERATOR
from test_flagship import NETWORK, C, losses, objective, randomized, space, stepped, terms
from torch import Tensor

from ups.data.fields import FieldMetadata
from ups.data.pde_residual import pde_residual
from ups.errors import ParameterError
from ups.models.codec import Codec
from ups.models.operator import LatentOperator
from ups.parameters.train_operator import Curriculum
from ups.training.loop import Progress
from ups.training.operator import OperatorObjective

VISCOSITY, SPEED, RATE = 0.1, 0.4, 1.3


def metadata(equation: str, points: int, dt: float) -> FieldMetadata:
    grid = METADATA.grid.model_copy(update={"points": (points,)})
    return METADATA.model_copy(update={"equation": equation, "grid": grid, "dt": dt})


def burgers(x: Tensor, t: float) -> Tensor:
    return closed_form(x, t, VISCOSITY, mean=0.3)


def advection(x: Tensor, t: float) -> Tensor:
    return torch.sin(2 * math.pi * (x - SPEED * t)) + 0.3 * torch.cos(6 * math.pi * (x - SPEED * t))


def logistic(x: Tensor, t: float) -> Tensor:
    """u_t = rho u (1 - u) without diffusion: every point by itself."""
    u0 = 0.5 + 0.3 * torch.sin(2 * math.pi * x)
    return u0 / (u0 + (1 - u0) * math.exp(-RATE * t))


EXACT = {
    "burgers": (burgers, [VISCOSITY]),
    "advection": (advection, [SPEED]),
    "diffusion_reaction": (logistic, [0.0, RATE]),
}


def residual(equation: str, points: int, dt: float, factor: float = 1.0) -> float:
    """rms of the exact solution's residual at t = 0.2, its coefficients wrong by `factor`."""
    solution, numbers = EXACT[equation]
    x = (torch.arange(points, dtype=torch.float64) + 0.5) / points
    before, after = (solution(x, t)[None, None] for t in (0.2, 0.2 + dt))
    coefficients = factor * torch.tensor([numbers], dtype=torch.float64)
    return float(pde_residual(before, after, coefficients, metadata(equation, points, dt)).square().mean().sqrt())


@pytest.mark.parametrize("equation", list(EXACT))
def test_the_residual_of_the_exact_solution_vanishes_with_the_second_order(equation):
    """dx and dt halved together: the slope of log error over log dx between 128 and 512 points."""
    errors = [residual(equation, points, 1.28 / points) for points in (128, 256, 512)]
    for coarse, fine in itertools.pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(2.0, abs=0.1)


def test_nothing_but_the_right_equation_has_that_order():
    """nu in place of nu/pi, the flux u^2 in place of u^2/2 (u doubled), a wrong speed: the residual stays."""
    right = residual("burgers", 512, 0.0025)
    assert residual("burgers", 512, 0.0025, factor=math.pi) > 100 * right
    assert residual("advection", 512, 0.0025, factor=1.05) > 100 * residual("advection", 512, 0.0025)
    x = (torch.arange(512, dtype=torch.float64) + 0.5) / 512
    doubled = [2 * burgers(x, t)[None, None] for t in (0.2, 0.2025)]
    numbers = torch.full((1, 1), VISCOSITY, dtype=torch.float64)
    wrong = pde_residual(*doubled, numbers, metadata("burgers", 512, 0.0025)).square().mean().sqrt()
    assert float(wrong) > 100 * right


def test_the_term_by_hand_in_either_frame():
    """Two steps from true starts: the mean over samples and steps of mean(R^2) dt^2 / mean(u_previous^2)."""
    for frame in ("comoving", "laboratory"):
        codec = randomized(Codec(**_codec(frame)), 0.2)
        latents, fields = space(codec)
        curriculum = Curriculum(max_steps=2, ramp=0.0, early_starts=0.0)
        made = OperatorObjective(latents, latents, losses(physics=1.0), curriculum, fields)
        operator = randomized(LatentOperator(**{**OPERATOR, "backbone": NETWORK}), 0.2)
        found = made.loss(operator, torch.arange(3), Progress(0, 0, 1), torch.Generator())
        by_hand = []
        for start in range(3):
            z, u = latents.tokens[:1, start], fields.train.fields[0, start]
            for _ in range(2):
                z = stepped(codec, operator, z, C[:1])[:, 0]
                after = codec.decode(z)[0]
                std = METADATA.normalization.std[0]
                shown = [(v if frame == "comoving" else v + 0.5)[None] * std for v in (u, after)]
                r = pde_residual(*shown, C[:1], METADATA)
                by_hand.append(float((r.square().mean() * METADATA.dt**2) / ((u + 0.5) * std).square().mean()))
                u = after
        assert float(found["physics"].value) == pytest.approx(sum(by_hand) / 6, rel=1e-5)


def _codec(frame: str) -> dict:
    return {**CODEC, "frame": frame}


def test_the_weight_alone_switches_it_on_and_training_on_it_lowers_it():
    assert "physics" not in terms(objective())
    made = objective({"physics": 1.0, "forward": 0.0})
    torch.manual_seed(0)
    operator = LatentOperator(**{**OPERATOR, "backbone": NETWORK})
    optimizer = torch.optim.Adam(operator.parameters(), 1e-2)
    found = []
    for _ in range(30):
        term = made.loss(operator, torch.arange(8), Progress(0, 0, 1), torch.Generator().manual_seed(0))["physics"]
        optimizer.zero_grad()
        term.value.backward()
        optimizer.step()
        found.append(float(term.value.detach()))
    assert found[-1] < 0.85 * found[0]  # the random fields of this set solve no equation, so there is a floor


def test_moved_samples_are_compared_with_their_own_start():
    """With symmetries the first residual starts from the moved field: only then is it that of an exact solution."""
    latents, fields = space(randomized(Codec(**_codec("comoving")), 0.2))
    curriculum = Curriculum(max_steps=1, ramp=0.0, early_starts=0.0)
    plain, moved = (
        OperatorObjective(latents, latents, losses(physics=1.0), curriculum, fields, symmetries)
        for symmetries in ((), ("shift", "reflection"))
    )
    seen = []
    for made in (plain, moved):
        made._residual = lambda frames, offset, numbers: seen.append(frames) or frames.mean()
        operator = LatentOperator(**{**OPERATOR, "backbone": NETWORK})
        made.loss(operator, torch.arange(4), Progress(0, 0, 1), torch.Generator().manual_seed(3))
    truth = fields.train.fields[0, :4]
    assert torch.equal(seen[0][:, 0], truth)
    assert not torch.equal(seen[1][:, 0], truth)
    torch.testing.assert_close(seen[1][:, 0].abs().sum(-1), truth.abs().sum(-1))


def test_an_equation_without_a_residual_is_refused():
    latents, fields = space(randomized(Codec(**_codec("laboratory")), 0.2))
    wave = type(latents)(latents.tokens, latents.coefficients, metadata("wave", 32, 0.05), "")
    curriculum = Curriculum(max_steps=1, ramp=0.0, early_starts=0.0)
    with pytest.raises(ParameterError, match=r"losses\.physics = 0\.5: there is no discrete residual for 'wave'"):
        OperatorObjective(wave, wave, losses(physics=0.5), curriculum, fields)
    OperatorObjective(wave, wave, losses(), curriculum, fields)
