"""The steady prior on small Darcy problems: what it is given, what it learns, and planted bugs in it."""

import dataclasses

import pytest
import torch
from steady_problems import DIM, POINTS, SHAPE, PatchCodec, encoded, like, problems

from ups.data.steady import as_pairs, problem_frame, unknown_part
from ups.evaluation import steady_verdicts as verdicts
from ups.evaluation.metrics import nrmse
from ups.evaluation.scores import FULL
from ups.evaluation.steady import STEADY, MeanSolution, PriorSolver, Reconstruction, score_steady
from ups.models.steady_prior import SteadyPrior
from ups.parameters.train_steady_prior import TrainSteadyPrior
from ups.training.checkpoint import Checkpoint
from ups.training.history import History
from ups.training.loop import Progress, train
from ups.training.machine import Machine
from ups.training.sampling import noise_generator
from ups.training.steady_prior import SteadyObjective

# One block sees the nearest tokens alone: a solution depends on all of the medium, so one iteration cannot find it.
BACKBONE = {"name": "token_convolution", "hidden": 32, "blocks": 1, "kernel": 3}
OPTIMIZATION = {"epochs": 1, "updates_per_epoch": 80, "pairs_per_update": 16, "learning_rate": 0.003}
SETTINGS = {
    "model": BACKBONE,
    "iterations": 3,
    "supervise": "every",
    "losses": {"latent": 1.0, "decoded": 1.0},
    "optimization": {**OPTIMIZATION, "schedule": "cosine", "ema_decay": 0.9},
}
BACKBONES = [
    BACKBONE,
    {"name": "pde_transformer", "hidden": 16, "depths": [1, 1], "group": 8, "heads": 2, "mlp_ratio": 1.0}
    | {"dropout": 0.0, "stem": 3},
    {"name": "stacked_transformer", "hidden": 16, "depth": 1, "heads": 2, "mlp_ratio": 1.0}
    | {"dropout": 0.0, "drop_path": 0.0, "stem": 3},
]


def prior(backbone=BACKBONE, iterations=3, periodic=(False, False), random_head=True) -> SteadyPrior:
    torch.manual_seed(0)
    made = SteadyPrior(list(SHAPE), DIM, 1, backbone, iterations, periodic)
    if random_head:
        torch.nn.init.normal_(made.network.head.weight, std=0.1)
    return made.eval().requires_grad_(False)


def settings(**changes) -> TrainSteadyPrior:
    return TrainSteadyPrior.model_validate({**SETTINGS, **changes})


@pytest.fixture(scope="module")
def data():
    train_split = problems(96)
    return train_split, like(problems(16, start=96), train_split)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    return fit(data, tmp_path_factory.mktemp("prior"))


def fit(data, folder, model=None, **changes):
    chosen = settings(**changes)
    (latents, fields), (held_latents, held_fields) = (encoded(split) for split in data)
    objective = SteadyObjective(latents, held_latents, fields, held_fields, PatchCodec(), chosen)
    model = (model or prior(random_head=False, iterations=chosen.iterations)).requires_grad_(True)
    model.set_statistics(latents.tokens.mean((0, 1, 2)), latents.tokens.std((0, 1, 2)))
    return train(
        model,
        objective.loss,
        objective.validate,
        len(latents.tokens),
        chosen.optimization,
        seed=1,
        machine=Machine(torch.device("cpu")),
        history=History(folder / "history.csv"),
        checkpoint=Checkpoint("train_steady_prior", "key", folder),
        label="train_steady_prior",
    )


def judged(model: SteadyPrior, data):
    """Return scores by name, and the metrics that the stage `evaluate` draws from them."""
    known, held_out = data
    solvers = {
        verdicts.prior_name(count, model.iterations): PriorSolver(PatchCodec(), model, known.metadata, count)
        for count in verdicts.iteration_counts(model.iterations)
    }
    solvers[verdicts.MEAN_SOLUTION] = MeanSolution(known)
    scores = {name: {STEADY: score_steady(solver, held_out, batch_size=5)} for name, solver in solvers.items()}
    another = score_steady(solvers["steady_prior"], verdicts.misled(held_out), batch_size=5).horizons["nrmse"][FULL]
    return (
        scores,
        verdicts.looks_at_problem(verdicts.errors(scores, "steady_prior"), another)["looks"],
        verdicts.gate(scores)["beats_mean_solution"],
        verdicts.iterating(scores, model.iterations)["pays"],
    )


def test_a_pair_is_the_problem_without_its_solution_and_the_solution(data):
    split = data[0]
    pairs = as_pairs(split)
    assert pairs.fields.shape == (96, 2, 2, POINTS, POINTS)
    assert torch.equal(pairs.fields[:, 1], split.fields[:, 0])
    assert torch.equal(pairs.fields[:, 0, 0], split.fields[:, 0, 0])
    assert torch.allclose(pairs.fields[:, 0, 1], torch.tensor(split.metadata.normalization.mean[1]))
    other = dataclasses.replace(split, fields=split.fields.clone())
    other.fields[:, :, 1] = 7.0
    assert torch.equal(as_pairs(other).fields[:, 0], pairs.fields[:, 0]), "the solution leaks into the problem"
    assert unknown_part(split).metadata.channels == ("u",)
    assert torch.equal(problem_frame(split.fields[:, 0, :1], split.metadata), pairs.fields[:, 0])


def test_trajectories_with_a_time_are_no_pairs():
    split = problems(2)
    wave = split.metadata.model_copy(update={"equation": "navier_stokes"})
    moving = dataclasses.replace(split, metadata=wave)
    assert as_pairs(moving) is moving


@pytest.mark.parametrize("backbone", BACKBONES, ids=lambda backbone: backbone["name"])
def test_a_refinement_repeats_the_same_weights_from_the_last_iterate(backbone):
    z, force = torch.randn(2, 16, DIM), torch.ones(2, 1)
    untrained = prior(backbone, random_head=False)
    assert torch.equal(untrained.refine(z, force), z[:, None].expand(-1, 3, -1, -1)), "zero at initialisation"
    model = prior(backbone)
    longer = model.refine(z, force, 6)
    assert longer.shape == (2, 6, 16, DIM)
    assert torch.allclose(longer[:, :3], model.refine(z, force), atol=1e-6)
    assert torch.equal(model(z, force), model.refine(z, force)[:, -1])
    assert (longer.diff(dim=1).abs().amax((0, 2, 3)) > 1e-4).all(), "every iteration moves"


def test_only_the_ends_of_open_axes_tell_where_a_token_is():
    z, force = torch.randn(2, 16, DIM), torch.ones(2, 1)

    def moved(tokens, axis):
        return tokens.unflatten(1, SHAPE).roll(1, 1 + axis).flatten(1, 2)

    for periodic in ((True, True), (False, True), (False, False)):
        model = prior(periodic=periodic)
        for axis, wraps in enumerate(periodic):
            same = torch.allclose(model(moved(z, axis), force), moved(model(z, force), axis), atol=1e-4)
            assert same == wraps, (periodic, axis)


def test_the_loss_is_the_mean_over_the_supervised_iterates(data):
    latents, fields = encoded(data[0])
    rows, model, codec = torch.arange(8), prior(), PatchCodec()
    iterates = model.refine(latents.tokens[rows, 0], latents.coefficients[rows])
    offset = torch.tensor(data[0].metadata.normalization.mean[1]) / torch.tensor(data[0].metadata.normalization.std[1])
    truth = fields.fields[rows, 1, 1]
    by_hand = {
        "latent": (iterates - latents.tokens[rows, 1:]).square().mean((0, 2, 3)),
        "decoded": torch.stack(
            [
                ((codec.decode(z)[:, 1] - truth).square().mean((1, 2)) / (truth + offset).square().mean((1, 2))).mean()
                for z in iterates.unbind(1)
            ]
        ),
    }
    for supervise, pick in (("every", slice(None)), ("last", slice(-1, None))):
        objective = SteadyObjective(latents, latents, fields, fields, codec, settings(supervise=supervise))
        terms = objective.loss(model, rows, Progress(0, 0, 1), noise_generator(0, 0))
        found = {name: float(term.value) for name, term in terms.items()}
        assert found == pytest.approx({name: float(v[pick].mean()) for name, v in by_hand.items()}, rel=1e-4)
    for name, other in (("latent", "decoded"), ("decoded", "latent")):
        only = settings(losses={name: 2.0, other: 0.0})
        terms = SteadyObjective(latents, latents, fields, fields, codec, only).loss(
            model, rows, Progress(0, 0, 1), noise_generator(0, 0)
        )
        assert {key: term.weight for key, term in terms.items()} == {name: 2.0}


def test_losses_without_weight_are_refused():
    with pytest.raises(ValueError, match="must be above 0"):
        settings(losses={"latent": 0.0, "decoded": 0.0})


def test_validation_is_the_metric_of_the_evaluation(data, trained):
    """The number in the history against `ups.evaluation.metrics.nrmse` of the solver's fields."""
    held_out = data[1]
    solver = PriorSolver(PatchCodec(), trained.model, held_out.metadata, 3)
    found = solver(held_out.fields[:, 0, :1], held_out.coefficients)
    error = nrmse(found[:, None], unknown_part(held_out).fields).mean()
    assert trained.history.rows[-1]["val_loss"] == pytest.approx(float(error), rel=1e-4)
    assert trained.history.rows[-1]["val_first_nrmse"] > trained.history.rows[-1]["val_loss"]


def test_a_trained_prior_beats_the_mean_solution_and_iterating_pays(data, trained):
    scores, looks, beats, pays = judged(trained.model, data)
    assert (looks, beats, pays) == (True, True, True)
    table = verdicts.by_iterations(scores, 3)
    assert table["iterations"].tolist() == [1, 2, 3, 4]
    assert table["trained"].tolist() == [False, False, True, False]
    assert table["nrmse"].iloc[0] > table["nrmse"].iloc[2]
    assert "correlation_time" not in scores["steady_prior"][STEADY].horizons


def test_planted_a_prior_that_ignores_the_problem_is_found(data, tmp_path):
    """It can do no better than the mean solution, and answers alike to the problem of another sample."""

    class Ignoring(SteadyPrior):
        def refine(self, problem, coefficients, iterations=None):
            return super().refine(torch.zeros_like(problem), coefficients, iterations)

    model = Ignoring(list(SHAPE), DIM, 1, BACKBONE, 3, (False, False))
    _, looks, beats, _ = judged(fit(data, tmp_path, model).model, data)
    assert (looks, beats) == (False, False)


def test_planted_iterations_that_do_nothing_are_found(data, trained):
    class Idle(SteadyPrior):
        def refine(self, problem, coefficients, iterations=None):
            count = self.iterations if iterations is None else iterations
            return super().refine(problem, coefficients, 1).expand(-1, count, -1, -1)

    model = Idle(list(SHAPE), DIM, 1, BACKBONE, 3, (False, False))
    model.load_state_dict(trained.model.state_dict())
    scores, looks, _, pays = judged(model.eval(), data)
    assert (looks, pays) == (True, False)
    assert verdicts.by_iterations(scores, 3)["nrmse"].nunique() == 1


def test_a_prior_of_one_iteration_has_nothing_to_compare(data):
    scores, _, _, pays = judged(prior(iterations=1), data)
    assert not pays
    assert "one iteration" in verdicts.iterating(scores, 1)["reason"]


def test_supervising_the_last_iterate_alone_gives_up_the_first(data, trained, tmp_path):
    last = fit(data, tmp_path, supervise="last").history.rows[-1]
    assert last["val_first_nrmse"] > 1.2 * trained.history.rows[-1]["val_first_nrmse"]


def test_a_solver_never_sees_the_solution(data):
    seen = []

    def solver(given, coefficients):
        seen.append(given)
        return given[:, :1]

    split = data[1]
    poisoned = dataclasses.replace(split, fields=split.fields.clone())
    poisoned.fields[:, :, 1] = float("nan")
    score_steady(solver, poisoned, batch_size=5)
    assert all(given.shape[1] == 1 and bool(given.isfinite().all()) for given in seen)
    with pytest.raises(ValueError, match="a solver returned shape"):
        score_steady(lambda given, coefficients: given[:, :0], split, batch_size=5)


def test_the_reconstruction_of_a_codec_that_loses_nothing_is_the_truth(data):
    split = data[1]
    found = Reconstruction(PatchCodec(), split.metadata)(split.fields)
    assert torch.allclose(found, unknown_part(split).fields, atol=1e-5)
