"""Symmetries as augmentation: what they make is a solution again, and training compares it with its own truth."""

import pytest
import torch
from small_surrogate import METADATA, OPERATOR
from test_flagship import NETWORK, C, objective, randomized, stepped

from ups.data.burgers import solve_burgers
from ups.data.latents import Latents
from ups.errors import ParameterError
from ups.models.operator import LatentOperator
from ups.training.loop import Progress
from ups.training.operator import OperatorObjective
from ups.training.symmetries import check, transform


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def fields(samples: int = 400) -> torch.Tensor:
    return torch.randn(samples, 2, 1, 16, generator=generator(3))


@pytest.mark.parametrize("frame", ["comoving", "laboratory"])
def test_every_sample_is_its_own_physical_field_shifted_and_perhaps_mirrored(frame):
    u, offset = fields(), torch.linspace(-1, 1, 400).reshape(-1, 1, 1, 1) if frame == "comoving" else torch.tensor(0.7)
    offset = offset.expand(400, 1, 1, 1)
    moved, moved_offset = transform(u, offset, frame, ["shift", "reflection"], generator())
    found = {(shift, mirrored): 0 for shift in range(16) for mirrored in (False, True)}
    for before, after in zip(u + offset, moved + moved_offset, strict=True):
        for shift, mirrored in found:
            candidate = -before.flip(-1) if mirrored else before
            if torch.allclose(candidate.roll(shift, -1), after, atol=1e-5):
                found[shift, mirrored] += 1
                break
        else:
            raise AssertionError("this sample is no shifted or mirrored copy of itself")
    assert min(found.values()) >= 2  # 400 draws of 32 kinds
    assert torch.equal(moved_offset, offset) == (frame == "laboratory")


def test_each_alone():
    u, offset = fields(), torch.zeros(400, 1, 1, 1)
    mirrored, _ = transform(u, offset, "comoving", ["reflection"], generator())
    kept = (mirrored == u).flatten(1).all(1)
    assert torch.equal(mirrored[~kept], -u[~kept].flip(-1))
    assert 150 < kept.sum() < 250
    shifted, _ = transform(u, offset, "comoving", ["shift"], generator())
    torch.testing.assert_close(shifted.sum(-1), u.sum(-1))


def test_the_mirrored_solution_solves_the_equation():
    """Solve from the moved initial field and compare with the moved solution."""
    x = (torch.arange(64, dtype=torch.float64) + 0.5) / 64 * 2 * torch.pi
    initial = (0.3 + torch.sin(x) + 0.4 * torch.cos(2 * x + 1))[None]
    times = torch.tensor([0.0, 0.05, 0.2], dtype=torch.float64)
    solution = solve_burgers(initial, 0.05, times, 1.0)
    both = ["shift", "reflection"]
    zero = torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    for seed in range(4):
        moved, _ = transform(solution[:, :, None], zero, "comoving", both, generator(seed))
        again = solve_burgers(moved[:, 0, 0], 0.05, times, 1.0)
        torch.testing.assert_close(again, moved[:, :, 0], atol=1e-10, rtol=0)


def test_training_encodes_the_moved_fields_and_compares_with_their_own_truth():
    """By hand: with every sample moved, the loss is that of the moved trajectories without augmentation."""
    plain = objective({"decoded": 1.0})
    operator = randomized(LatentOperator(**{**OPERATOR, "backbone": NETWORK}), 0.2)
    latents = Latents(plain.train.tokens, plain.train.coefficients, METADATA, "")
    augmented = OperatorObjective(latents, latents, plain.losses, plain.curriculum, plain.space, ("reflection",))
    indices = torch.arange(20)
    loss = augmented.loss(operator, indices, Progress(0, 0, 1), generator(5))
    observed, codec = plain.space.train, plain.space.codec
    rows, frames = plain.train.positions(indices, 1)
    u, offset = observed.fields[rows[:, None], frames], observed.offset[rows, None]
    moved, moved_offset = transform(u, offset, "comoving", ["reflection"], generator(5))
    assert not torch.equal(moved, u)
    z = codec.encode(moved[:, 0])
    advanced = stepped(codec, operator, z, C[:1].expand(20, -1))[:, 0]
    predicted = codec.decode(advanced)
    by_hand = (predicted - moved[:, 1]).square().mean((1, 2)) / (moved + moved_offset)[:, 1].square().mean((1, 2))
    assert float(loss["decoded"].value) == pytest.approx(float(by_hand.mean()), rel=1e-5)
    latent = operator.standardize(advanced) - operator.standardize(codec.encode(moved[:, 1]))
    assert float(loss["forward"].value) == pytest.approx(float(latent.square().mean()), rel=1e-5)
    alone = plain.loss(operator, indices, Progress(0, 0, 1), generator(5))
    assert float(loss["decoded"].value) != pytest.approx(float(alone["decoded"].value), rel=1e-3)


def test_a_symmetry_that_the_equation_lacks_is_refused():
    advection = METADATA.model_copy(update={"equation": "advection"})
    check(["shift"], advection)
    with pytest.raises(ParameterError, match="'reflection' maps"):
        check(["shift", "reflection"], advection)
    walls = METADATA.model_copy(update={"grid": METADATA.grid.model_copy(update={"periodic": (False,)})})
    with pytest.raises(ParameterError, match="need one periodic axis"):
        check(["shift"], walls)
    check([], walls)
