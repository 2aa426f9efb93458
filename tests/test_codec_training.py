"""The codec's losses: curriculum, query points, gradients."""

import pytest
import torch

from ups.data.reference_frame import Observed
from ups.errors import TrainingError
from ups.models.codec import Codec
from ups.parameters.section import Optimization
from ups.parameters.train_codec import InverseLosses
from ups.training.checkpoint import Checkpoint
from ups.training.codec import CodecObjective, inverse_weight, query_points
from ups.training.history import History
from ups.training.loop import Progress, train
from ups.training.losses import total
from ups.training.machine import Machine


def settings(**changes) -> InverseLosses:
    base = {
        "weight": 0.01,
        "max_weight": 0.05,
        "warmup_epochs": 4,
        "ramp": "linear",
        "num_queries": 2048,
        "query_sampling": "uniform",
        "frequency": 1,
    }
    return InverseLosses(**{**base, **changes})


def test_the_curriculum_by_hand():
    weights = [inverse_weight(epoch, settings(weight=1.0, max_weight=0.4)) for epoch in range(10)]
    assert weights == pytest.approx([0, 0, 0, 0, 0.0, 0.1, 0.2, 0.3, 0.4, 0.4])
    cosine = [inverse_weight(epoch, settings(ramp="cosine")) for epoch in range(4, 8)]
    assert cosine == pytest.approx([0.0, 0.01 * 0.146447, 0.005, 0.01 * 0.853553], abs=1e-7)
    assert inverse_weight(0, settings(weight=0.5, max_weight=0.5, warmup_epochs=0)) == 0.5


def test_queries_are_distinct_points_half_of_a_small_grid_and_one_per_block_when_stratified():
    generator = torch.Generator().manual_seed(0)
    uniform = query_points((256,), settings(), generator)
    assert len(uniform) == len(uniform.unique()) == 128
    assert len(query_points((8192,), settings(), generator)) == 2048
    stratified = query_points((256,), settings(query_sampling="stratified", num_queries=32), generator)
    assert torch.equal(stratified // 8, torch.arange(32))
    # Uniform draws leave some of 32 blocks empty: probability (1 - 1/32)^32 each.
    few = query_points((256,), settings(num_queries=32), generator)
    assert len((few // 8).unique()) < 32


def test_queries_on_a_plane_lie_one_in_each_block():
    generator = torch.Generator().manual_seed(0)
    assert len(query_points((64, 64), settings(), generator).unique()) == 2048
    index = query_points((16, 32), settings(query_sampling="stratified", num_queries=32), generator)
    rows, columns = index // 32, index % 32
    assert torch.equal(rows // 4 * 8 + columns // 4, torch.arange(32))  # 4 x 8 blocks of 4 x 4 points
    # 31 has no such division: 3 x 7 = 21 blocks, of sizes that cover the grid.
    assert len(query_points((16, 32), settings(query_sampling="stratified", num_queries=31), generator)) == 21


def test_queries_in_a_box_lie_one_in_each_block():
    generator = torch.Generator().manual_seed(0)
    uniform = query_points((8, 8, 8), settings(num_queries=100), generator)
    assert len(uniform.unique()) == 100
    index = query_points((8, 8, 8), settings(query_sampling="stratified", num_queries=64), generator)
    blocks = [index // stride % 8 // 2 for stride in (64, 8, 1)]  # 4 x 4 x 4 blocks of 2 x 2 x 2 points
    assert torch.equal(blocks[0] * 16 + blocks[1] * 4 + blocks[2], torch.arange(64))
    assert len(query_points((4, 4, 4), settings(query_sampling="stratified"), generator)) <= 32  # half of 64 points


@pytest.mark.parametrize("points", [(32,), (8, 8), (4, 4, 4)])
@pytest.mark.parametrize("sampling", ["uniform", "stratified"])
def test_the_inverse_loss_compares_the_field_at_the_places_that_it_decodes(points, sampling):
    """A codec that returns the field at the nearest point of the grid has no loss; one that mixes up two axes has."""
    frames = torch.randn(4, 1, 1, *points, generator=torch.Generator().manual_seed(1))
    split = Observed(frames, torch.zeros(4, 1, *[1] * len(points)))
    made = CodecObjective(split, split, settings(warmup_epochs=0, query_sampling=sampling, num_queries=16))
    seen = []

    class Nearest:
        turned = False

        def encode(self, u):
            return u

        def decode(self, z):
            return z

        def decode_at(self, z, x):
            seen.append(len(x))
            place = x[:, None] if x.ndim == 1 else x.flip(-1) if self.turned else x
            index = (place * torch.tensor(points)).long()
            return z[(..., *index.unbind(-1))]

    model = Nearest()

    def loss():
        found = made.loss(model, torch.arange(4), Progress(0, 0, 1), torch.Generator().manual_seed(0))
        return float(found["inverse_encoding"].value)

    assert loss() == 0.0
    assert seen == [16 if sampling == "uniform" or len(points) < 3 else 8]  # 16 points of 4 x 4 x 4: 2 x 2 x 2 blocks
    if len(points) > 1:
        model.turned = True
        assert loss() > 0.1


@pytest.fixture
def objective():
    generator = torch.Generator().manual_seed(1)
    frames = torch.randn(24, 1, 1, 32, generator=generator)
    offset = torch.zeros(24, 1, 1)
    splits = (Observed(frames[rows], offset[rows]) for rows in (slice(16), slice(16, None)))
    return CodecObjective(*splits, settings(warmup_epochs=1, frequency=2))


def codec(kind: type[Codec] = Codec, dim: int = 8) -> Codec:
    torch.manual_seed(0)
    encoder = {"hidden": 8, "depth": 1, "kernel": 3}
    decoder = {"hidden": 8, "depth": 1, "neighbours": 3, "frequencies": 2}
    return kind(channels=1, points=32, tokens=4, dim=dim, encoder=encoder, decoder=decoder)


def test_the_inverse_losses_act_on_every_nth_update_after_the_warm_up(objective):
    def terms(update, epoch):
        return set(objective.loss(codec(), torch.arange(4), Progress(update, epoch, 100), torch.Generator()))

    every = {"reconstruction", "inverse_encoding", "inverse_decoding"}
    assert terms(0, 0) == {"reconstruction"}
    assert terms(50, 2) == every
    assert terms(51, 2) == {"reconstruction"}


def test_each_inverse_loss_moves_the_part_it_is_for(objective):
    """Inverse encoding reaches encoder and decoder; inverse decoding compares with a target that is held fixed."""
    model = codec()
    found = objective.loss(model, torch.arange(4), Progress(50, 2, 100), torch.Generator())
    found["inverse_encoding"].value.backward(retain_graph=True)
    assert model.encoder.linear.weight.grad.abs().sum() > 0
    assert model.decoder.skip.weight.grad.abs().sum() > 0
    model.zero_grad(set_to_none=True)
    found["inverse_decoding"].value.backward()
    assert model.decoder.skip.weight.grad.abs().sum() > 0


def test_a_perfect_codec_has_no_loss(objective):
    class Perfect:
        def encode(self, u):
            return u

        def decode(self, z):
            return z

        def decode_at(self, z, x):
            return z[..., (x * 32).long()]

    found = objective.loss(Perfect(), torch.arange(4), Progress(50, 2, 100), torch.Generator())
    assert all(float(term.value) == 0.0 for term in found.values())
    assert objective.validate(Perfect()) == {"train_loss": 0.0, "val_loss": 0.0}


def test_the_validation_number_is_the_nrmse_of_physical_fields():
    """u = 3 + v with |v| = 1 and a codec that returns v/2: rms(err) = 1/2 and rms(u) = sqrt(10)."""
    frames = Observed(torch.tensor([1.0, -1.0]).repeat(16).expand(4, 1, 1, 32), torch.full((4, 1, 1), 3.0))

    class Half:
        def encode(self, u):
            return u

        def decode(self, z):
            return z / 2

    objective = CodecObjective(frames, frames, settings())
    assert objective.validate(Half())["val_loss"] == pytest.approx(0.5 / 10**0.5)


def trained(folder, settings_of_losses, model=None, updates=60):
    """Train on white noise, half of which the 16 numbers of 4 tokens can hold; return the history and the codec."""
    generator = torch.Generator().manual_seed(2)
    frames = torch.randn(96, 1, 1, 32, generator=generator)
    splits = [Observed(frames[rows], torch.zeros(len(frames[rows]), 1, 1)) for rows in (slice(64), slice(64, None))]
    made = CodecObjective(*splits, settings_of_losses)
    optimization = Optimization(epochs=4, updates_per_epoch=updates // 4, pairs_per_update=32, learning_rate=0.01)
    folder.mkdir()
    result = train(
        model or codec(dim=4),
        made.loss,
        made.validate,
        64,
        optimization,
        seed=0,
        machine=Machine(torch.device("cpu")),
        history=History(folder / "history.csv"),
        checkpoint=Checkpoint("codec", "key", folder),
        label="codec",
    )
    return result.history.rows, result.model


def test_the_history_shows_the_inverse_losses_after_their_warm_up_alone(tmp_path):
    rows, _ = trained(tmp_path / "a", settings(warmup_epochs=2), updates=8)
    # The ramp starts from 0 in epoch 3, so the losses act from epoch 4 on.
    assert ["loss_inverse_encoding" in row for row in rows] == [False, False, False, True]
    rows, _ = trained(tmp_path / "b", settings(weight=0.0, warmup_epochs=0), updates=8)
    assert not any("loss_inverse_encoding" in row for row in rows)


def test_the_weight_enters_the_total_loss_and_nothing_else(objective):
    """By hand: reconstruction + w (inverse encoding + inverse decoding), the same terms for every weight."""
    found = {}
    for weight in (0.01, 0.5):
        objective.settings = settings(weight=weight, max_weight=weight, warmup_epochs=0)
        terms = objective.loss(codec(), torch.arange(4), Progress(0, 0, 100), torch.Generator().manual_seed(0))
        found[weight] = {name: float(term.value.detach()) for name, term in terms.items()}
        own = found[weight]
        by_hand = own["reconstruction"] + weight * (own["inverse_encoding"] + own["inverse_decoding"])
        assert float(total(terms).detach()) == pytest.approx(by_hand, rel=1e-6)
    assert found[0.01] == found[0.5]
    assert found[0.5]["inverse_encoding"] > 0.1  # an untrained codec: the weight decides something


def test_a_term_that_moves_no_weight_is_an_error(tmp_path):
    """Planted: a codec whose any-point path is cut off from its weights."""

    class Cut(Codec):
        def decode_at(self, z, x):
            return super().decode_at(z, x).detach()

    with pytest.raises(TrainingError, match="'inverse_encoding' has no gradient with respect to any trained parameter"):
        trained(tmp_path / "a", settings(warmup_epochs=0), codec(Cut), updates=4)
