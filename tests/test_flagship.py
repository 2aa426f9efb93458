"""The flagship's ingredients: each does what it says, and its switch changes what it should."""

import copy
from dataclasses import replace

import pytest
import torch
from small_surrogate import CODEC, METADATA, OPERATOR, write_models
from torch import nn

from ups.data.latents import Latents
from ups.data.reference_frame import Observed
from ups.errors import ParameterError
from ups.inference.surrogate import Surrogate, load_surrogate
from ups.models.codec import Codec
from ups.models.fno import FourierOperator, fno_of_size
from ups.models.operator import LatentOperator
from ups.models.token_convolution import TokenConvolution
from ups.models.token_network import NeighbourBlock, TokenNetwork
from ups.parameters.section import Optimization
from ups.parameters.train_operator import Curriculum, OperatorLosses
from ups.training.loop import Progress
from ups.training.operator import FieldSpace, OperatorObjective, early_starts
from ups.training.optimizer import Optimizer

C = torch.full((3, 1), 0.01)
NETWORK = {"name": "token_convolution", "hidden": 12, "blocks": 2, "kernel": 3}


def randomized(model, std: float = 0.3):
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=std)
    return model.eval().requires_grad_(False)


def surrogate(frame="comoving", reencode=True) -> Surrogate:
    operator = randomized(LatentOperator(**{**OPERATOR, "backbone": NETWORK}, reencode=reencode), 0.2)
    return Surrogate(METADATA, randomized(Codec(**CODEC, frame=frame), 0.2), operator)


def stepped(codec: Codec, operator: LatentOperator, z: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
    """Return the tokens of the next frames, (B, F, N, D): what the operator predicts, with the mean it starts from."""
    return codec.conserve(z, operator.advance(z, coefficients))


def smooth(rows: int = 3) -> torch.Tensor:
    """Fields of three long waves and a mean, (rows, 1, 1, 32)."""
    x = (torch.arange(32) + 0.5) / 32 * 2 * torch.pi
    amplitude = torch.randn(rows, 3, generator=torch.Generator().manual_seed(0))
    waves = torch.stack([torch.sin(x), torch.cos(2 * x), torch.sin(3 * x + 1)])
    return (amplitude @ waves + 0.5)[:, None, None]


# --- the token network


def test_the_token_network_commutes_with_shifts_by_whole_tokens_and_starts_as_the_identity():
    torch.manual_seed(0)
    network = TokenNetwork(tokens=8, dim=4, num_conditions=2, hidden=12, blocks=2, kernel=3)
    z, condition = torch.randn(3, 8, 4), torch.rand(3, 2)
    assert not network(z, condition).any()
    randomized(network)
    torch.testing.assert_close(network(z.roll(3, 1), condition), network(z, condition).roll(3, 1), atol=1e-5, rtol=1e-5)
    assert (network(z, condition) - network(z, 2 * condition)).abs().max() > 1e-2


def test_a_token_reads_as_many_neighbours_as_the_blocks_reach():
    network = randomized(TokenNetwork(tokens=16, dim=4, num_conditions=1, hidden=12, blocks=2, kernel=3))
    z, condition = torch.randn(1, 16, 4), torch.zeros(1, 1)
    moved = z.clone()
    moved[:, 8] += 1.0
    reached = (network(moved, condition) - network(z, condition)).abs().sum(-1)[0] > 1e-6
    assert reached.nonzero().flatten().tolist() == [6, 7, 8, 9, 10]


def test_the_block_is_the_token_convolution_with_its_kernel_as_a_matrix():
    block, convolution = NeighbourBlock(6, 5, (9,)), TokenConvolution(6, 5, (9,))
    randomized(convolution)
    with torch.no_grad():
        block.mix.weight.copy_(convolution.mix.weight.permute(0, 2, 1).flatten(1))
        block.mix.bias.copy_(convolution.mix.bias)
    block.out.load_state_dict(convolution.out.state_dict())
    h = torch.randn(2, 9, 6)
    torch.testing.assert_close(block(h), convolution(h), atol=1e-5, rtol=1e-5)


# --- the comoving frame in a surrogate


def test_a_boosted_start_gives_the_boosted_forecast():
    """u + c is the same flow, c faster and moved by c t: here by one cell per time step, which no wave hides."""
    steps, boost = 5, 1 / 32 / METADATA.dt
    given = smooth()
    for model in (surrogate(), surrogate(reencode=False)):
        forecaster = model.forecaster("operator")
        plain, boosted = (forecaster(field, steps, C) for field in (given, given + boost))
        carried = torch.stack([plain[:, k].roll(k + 1, -1) for k in range(steps)], dim=1) + boost
        torch.testing.assert_close(boosted, carried, atol=5e-6, rtol=0)  # float32
        assert (boosted - plain - boost).abs().max() > 1e-2
    laboratory = surrogate("laboratory").forecaster("operator")
    change = laboratory(given + boost, steps, C) - laboratory(given, steps, C) - boost
    assert change.abs().max() > 1e-2


def test_a_forecast_keeps_the_mean_of_its_start_exactly():
    given = smooth()
    frames = surrogate().forecaster("operator")(given, 6, C)
    torch.testing.assert_close(frames.mean(-1), given[:, -1:].mean(-1).expand(3, 6, 1), atol=1e-6, rtol=0)
    drifts = surrogate("laboratory").forecaster("operator")(given, 6, C).mean(-1) - given[:, -1:].mean(-1)
    assert drifts.abs().max() > 1e-3


def test_every_way_to_forecast_is_the_same_forecast(tmp_path):
    folders = write_models(tmp_path)
    loaded = load_surrogate(**folders, metadata=METADATA)
    model = replace(surrogate(), corrector=loaded.corrector, choice="corrected")
    frames = model.forecaster()(smooth(), 3, C)
    rolled = torch.stack(list(model.rollout(smooth()[:, 0], C, 3)), dim=1)
    torch.testing.assert_close(rolled, frames, atol=1e-6, rtol=0)
    observer, z = model.start(smooth()[:, 0])
    for step in (1, 2, 3):
        tokens, _, z_next = model.forecaster().step(z, C)
        torch.testing.assert_close(model.decode(tokens[:, 0], observer, step), frames[:, step - 1], atol=1e-6, rtol=0)
        z = model.reencode(tokens[:, 0])
        torch.testing.assert_close(z_next, z, atol=1e-6, rtol=0)


def test_reconstruction_takes_every_frame_by_itself():
    model = surrogate()
    fields = torch.cat([smooth(), smooth().flip(0)], dim=1)
    whole = model.reconstruct(fields)
    torch.testing.assert_close(whole[:, 1:], model.reconstruct(fields[:, 1:]), atol=1e-6, rtol=0)
    torch.testing.assert_close(whole.mean(-1), fields.mean(-1), atol=1e-6, rtol=0)


# --- re-encoding


class Projection(nn.Module):
    """A linear codec whose encoder inverts its decoder: 6 latent numbers for 4 points."""

    frame = "laboratory"

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.basis = torch.linalg.qr(torch.randn(6, 4, generator=generator)).Q

    def encode(self, u):
        return (u @ self.basis.T).transpose(1, 2).reshape(len(u), 1, 6)

    def decode(self, z):
        return z @ self.basis


def test_re_encoding_is_idempotent_and_leaves_the_codecs_manifold_alone():
    codec = Projection()
    operator = LatentOperator(**{**OPERATOR, "backbone": NETWORK}, reencode=True)
    model = Surrogate(METADATA, codec, operator)
    u, z = torch.randn(3, 1, 4), torch.randn(3, 1, 6)
    once = model.reencode(z)
    torch.testing.assert_close(model.reencode(once), once, atol=1e-5, rtol=0)
    torch.testing.assert_close(model.reencode(codec.encode(u)), codec.encode(u), atol=1e-5, rtol=0)
    assert (once - z).abs().max() > 0.1
    torch.testing.assert_close(codec.decode(once), codec.decode(z), atol=1e-5, rtol=0)  # no field changes by it
    operator.reencode = False
    assert model.reencode(z) is z


def test_re_encoding_acts_from_the_second_step_on():
    on, off = (surrogate(reencode=choice).forecaster("operator")(smooth(), 3, C) for choice in (True, False))
    assert torch.equal(on[:, 0], off[:, 0])
    assert (on[:, 1] - off[:, 1]).abs().max() > 1e-3


# --- training


def space(codec: Codec) -> tuple[Latents, FieldSpace]:
    fields = torch.randn(4, 6, 1, 32, generator=torch.Generator().manual_seed(2))
    observed = Observed(fields - fields.mean(-1, keepdim=True), torch.full((4, 1, 1), 0.5))
    with torch.no_grad():
        tokens = codec.encode(observed.fields.flatten(0, 1)).unflatten(0, (4, 6))
    return Latents(tokens, torch.full((4, 1), 0.01), METADATA, ""), FieldSpace(codec, observed, observed)


def losses(**changes) -> OperatorLosses:
    none = dict.fromkeys(OperatorLosses.model_fields, 0.0)
    return OperatorLosses(**{**none, "forward": 1.0, **changes})


def objective(changes=None, steps=1, early=0.0) -> OperatorObjective:
    latents, fields = space(randomized(Codec(**CODEC, frame="comoving"), 0.2))
    curriculum = Curriculum(max_steps=steps, ramp=0.0, early_starts=early)
    return OperatorObjective(latents, latents, losses(**(changes or {})), curriculum, fields)


def terms(made: OperatorObjective, reencode: bool = False) -> dict[str, float]:
    operator = randomized(LatentOperator(**{**OPERATOR, "backbone": NETWORK}, reencode=reencode), 0.2)
    found = made.loss(operator, torch.arange(8), Progress(0, 0, 1), torch.Generator().manual_seed(0))
    return {name: float(term.value) for name, term in found.items()}


def test_the_decoded_loss_is_the_squared_nrmse_of_fields():
    """By hand, for one step from true frames: mean over samples of MSE(decoded, true) / mean((true + offset)^2)."""
    made = objective({"decoded": 1.0})
    operator = randomized(LatentOperator(**{**OPERATOR, "backbone": NETWORK}), 0.2)
    codec, fields, tokens = made.space.codec, made.space.train.fields, made.train.tokens
    by_hand = []
    for row, frame in ((0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (1, 0), (1, 1), (1, 2)):
        predicted = codec.decode(stepped(codec, operator, tokens[row, frame][None], C[:1])[:, 0])[0]
        target = fields[row, frame + 1]
        by_hand.append(float((predicted - target).square().mean() / (target + 0.5).square().mean()))
    assert terms(made)["decoded"] == pytest.approx(sum(by_hand) / 8, rel=1e-5)
    whole = float(made.loss(operator, torch.arange(20), Progress(0, 0, 1), torch.Generator())["decoded"].value)
    alone = objective({"decoded": 1.0, "forward": 0.0}).validate(operator)
    assert alone["val_loss"] == pytest.approx(whole, rel=1e-5)
    assert made.validate(operator)["val_loss"] != pytest.approx(whole, rel=1e-2)  # with latents in the loss: their MSE
    assert "decoded" not in terms(objective())


def test_training_rollouts_re_encode_like_forecasts():
    """Two steps by the surrogate's own pieces; re-encoding changes their loss, and leaves that of one step alone."""
    made = objective({"decoded": 1.0}, steps=2)
    operator = randomized(LatentOperator(**{**OPERATOR, "backbone": NETWORK}, reencode=True), 0.2)
    model = Surrogate(METADATA, made.space.codec, operator)
    frames, coefficients = made.train.window(torch.arange(8), 2)
    z = stepped(model.codec, operator, frames[:, 0], coefficients)[:, 0]
    again = stepped(model.codec, operator, model.reencode(z), coefficients)[:, 0]
    predicted, decoded = made._rollout(operator, frames[:, 0], coefficients, 2)
    torch.testing.assert_close(predicted, torch.stack([z, again], dim=1))
    torch.testing.assert_close(decoded, torch.stack([model.codec.decode(z), model.codec.decode(again)], dim=1))
    assert terms(made, reencode=True)["decoded"] != pytest.approx(terms(made)["decoded"], rel=1e-4)
    single = objective({"decoded": 1.0})
    assert terms(single, reencode=True) == terms(single)
    assert "val_rollout_nrmse" in made.validate(operator)
    assert "val_rollout_nrmse" not in objective().validate(copy.deepcopy(operator).apply(_stop_reencoding))


def _stop_reencoding(module):
    if isinstance(module, LatentOperator):
        module.reencode = False


def test_early_starts_by_hand():
    """Starts x^(1 + w) of the trajectory: with w = 1 half of them lie in the first quarter, and 0 changes nothing."""
    frames = torch.arange(40).repeat(500)
    generator = torch.Generator().manual_seed(0)
    assert early_starts(frames, 40, 0.0, generator) is frames
    drawn = early_starts(frames, 40, 1.0, generator)
    assert int(drawn.min()) == 0
    assert int(drawn.max()) == 39
    # A quarter of the 20,000 draws lies in the first sixteenth: 2.5 frames, of which frame 2 belongs half.
    assert float((drawn < 10).double().mean()) == pytest.approx(0.5, abs=0.01)
    assert len(drawn.unique()) == 40
    uniform, early = (terms(objective(steps=1, early=weight))["forward"] for weight in (0.0, 3.0))
    assert uniform != early


def test_muon_takes_the_matrices_and_adamw_the_rest():
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 1))
    settings = Optimization(optimizer="muon", epochs=1, updates_per_epoch=1, pairs_per_update=1, learning_rate=0.1)
    optimizer = Optimizer(model, settings)
    before = copy.deepcopy(model)
    model(torch.randn(7, 6)).square().mean().backward()
    optimizer.step(0.1)
    change = (model[0].weight - before[0].weight).detach()
    # All singular values of an orthogonalised step are about equal; those of its gradient differ by orders.
    spread = torch.linalg.svdvals(change)
    assert float(spread.max() / spread.min()) < 3
    gradient = torch.linalg.svdvals(model[0].weight.grad)
    assert float(gradient.max() / gradient.min()) > 10
    assert len(optimizer.parts) == 2
    assert [sum(p.numel() for g in part.param_groups for p in g["params"]) for part in optimizer.parts] == [6, 35]
    plain = Optimizer(model, settings.model_copy(update={"optimizer": "adamw"}))
    assert [type(part) for part in plain.parts] == [torch.optim.AdamW]


def test_a_muon_training_resumes_where_it_stopped():
    def train(updates, optimizer, model):
        for update in updates:
            generator = torch.Generator().manual_seed(update)
            optimizer.zero_grad()
            model(torch.randn(7, 6, generator=generator)).square().mean().backward()
            optimizer.step(0.01)

    torch.manual_seed(0)
    whole = nn.Linear(6, 5)
    settings = Optimization(optimizer="muon", epochs=1, updates_per_epoch=1, pairs_per_update=1, learning_rate=0.1)
    half = copy.deepcopy(whole)
    train(range(6), Optimizer(whole, settings), whole)
    first = Optimizer(half, settings)
    train(range(3), first, half)
    resumed = Optimizer(half, settings)
    resumed.load_state_dict(first.state_dict())
    train(range(3, 6), resumed, half)
    assert torch.equal(half.weight, whole.weight)


# --- the baseline in the same frame


def test_the_baseline_can_use_the_same_frame():
    torch.manual_seed(0)
    model = fno_of_size(5_000, modes=6, layers=2, metadata=METADATA, frame="comoving").eval()
    given = smooth()
    frames = model.forecaster(METADATA)(given, 4, C)
    torch.testing.assert_close(frames.mean(-1), given[:, -1:].mean(-1).expand(3, 4, 1), atol=1e-6, rtol=0)
    boost = 3 * METADATA.grid.spacing[0] / METADATA.dt
    boosted = model.forecaster(METADATA)(given + boost, 4, C)
    carried = torch.stack([frames[:, k].roll(3 * (k + 1), -1) for k in range(4)], dim=1) + boost
    torch.testing.assert_close(boosted, carried, atol=1e-4, rtol=0)
    assert FourierOperator(**model.arguments).frame == "comoving"
    with pytest.raises(ParameterError, match="comoving frame needs"):
        model.forecaster(METADATA.model_copy(update={"equation": "advection"}))
