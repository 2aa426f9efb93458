"""Muon: the same steps as torch's, with all matrices of one shape at once."""

import math

import pytest
import torch

from ups.training.muon import Muon, orthogonalize

SHAPES = [(64, 192), (64, 192), (64, 64), (16, 64), (64, 16), (128, 2)]


def test_singular_values_come_near_to_one_and_directions_stay():
    generator = torch.Generator().manual_seed(0)
    u, _ = torch.linalg.qr(torch.randn(8, 8, generator=generator, dtype=torch.float64))
    v, _ = torch.linalg.qr(torch.randn(24, 8, generator=generator, dtype=torch.float64))
    sizes = torch.logspace(0, -2, 8, dtype=torch.float64)
    found = u.T @ orthogonalize((u * sizes @ v.T)[None])[0] @ v
    values = found.diagonal()
    assert (found - torch.diag(values)).abs().max() < 1e-10  # odd polynomials of a matrix keep its singular vectors
    # The quintic's own range after five iterations for values of at least 1e-2 of the norm.
    assert values.min() > 0.6
    assert values.max() < 1.25


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_steps_are_those_of_torch(decay):
    """torch iterates in bfloat16 (8 bits: 4e-3), which the quintic amplifies for small singular values."""
    generator = torch.Generator().manual_seed(1)
    ours = [torch.randn(shape, generator=generator).requires_grad_() for shape in SHAPES]
    theirs = [p.detach().clone().requires_grad_() for p in ours]
    start = [p.detach().clone() for p in ours]
    steps = [
        Muon(ours, lr=0.01, weight_decay=decay),
        torch.optim.Muon(theirs, lr=0.01, weight_decay=decay, adjust_lr_fn="match_rms_adamw"),
    ]
    for _ in range(5):
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn(mine.shape, generator=generator)
            other.grad = mine.grad.clone()
        for optimizer in steps:
            optimizer.step()
    for mine, other, old in zip(ours, theirs, start, strict=True):
        moved = (other - old).norm()
        assert moved > 0
        assert (mine - other).norm() < 0.03 * moved


def test_a_matrix_steps_as_if_it_were_alone():
    generator = torch.Generator().manual_seed(2)
    together = [torch.randn(shape, generator=generator).requires_grad_() for shape in SHAPES]
    alone = [p.detach().clone().requires_grad_() for p in together]
    for a, b in zip(together, alone, strict=True):
        a.grad = torch.randn(a.shape, generator=generator)
        b.grad = a.grad.clone()
    Muon(together, lr=0.1).step()
    for matrix in alone:
        Muon([matrix], lr=0.1).step()
    for a, b in zip(together, alone, strict=True):
        # Products of batches and of single matrices may round differently.
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_a_step_has_the_size_of_one_of_adamw():
    matrix = torch.zeros(64, 64, requires_grad=True)
    matrix.grad = torch.randn(64, 64, generator=torch.Generator().manual_seed(3))
    Muon([matrix], lr=1.0).step()
    # An orthogonal matrix has entries of 1/sqrt(n); times 0.2 sqrt(n) that is 0.2. The quintic ends within 0.7..1.2.
    assert float(matrix.detach().square().mean().sqrt()) == pytest.approx(0.2, rel=0.3)


def test_what_has_no_gradient_stays():
    matrices = [torch.ones(4, 8, requires_grad=True), torch.ones(4, 8, requires_grad=True)]
    matrices[0].grad = torch.randn(4, 8)
    Muon(matrices, lr=0.1, weight_decay=0.5).step()
    assert bool((matrices[1] == 1).all())
    assert not bool((matrices[0] == 1).all())


def test_a_gradient_of_zero_makes_no_step():
    matrix = torch.ones(4, 8, requires_grad=True)
    matrix.grad = torch.zeros(4, 8)
    Muon([matrix], lr=0.1).step()
    assert bool((matrix == 1).all())
    assert math.isfinite(float(matrix.detach().sum()))


def test_only_matrices_are_taken():
    with pytest.raises(ValueError, match=r"\(3,\)"):
        Muon([torch.zeros(3, requires_grad=True)], lr=0.1)
