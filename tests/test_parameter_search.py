"""Searches in sweep files: trials are variants like all others, chosen by validation, and drawn again after a kill."""

import json
import math
from pathlib import Path

import pytest
import shapes
import yaml
from standin import ROOT

from ups.errors import ArtifactError, ParameterError, UpsError
from ups.parameters.overlay import read_variant
from ups.parameters.search_space import Choices, Interval
from ups.parameters.sweeps import read_sweep
from ups.pipeline import jobs, results, search
from ups.pipeline.controlled import declared_between
from ups.pipeline.samplers import Told, draw
from ups.pipeline.sweep import sweep
from ups.report import runs

OPTIMIZATION = "train_diffusion.optimization"
RATE, DECAY = f"{OPTIMIZATION}.learning_rate", f"{OPTIMIZATION}.weight_decay"
SPACE = {
    RATE: {"low": 1e-5, "high": 1e-4, "log": True},
    DECAY: {"low": 0.0, "high": 0.1},
    f"{OPTIMIZATION}.epochs": {"low": 2, "high": 10, "integer": True},
    f"{OPTIMIZATION}.min_learning_rate": {"values": [1e-6]},
}
SEARCH = {"base": "golden", "sampler": "random", "trials": 4, "seed": 3, "score": "train_diffusion.val_loss"}
SEARCH |= {"direction": "minimize", "space": SPACE}
TPE = {"sampler": "tpe", "trials": 6, "batch": 2}
GRID = {"train_diffusion.depth": {"values": [3, 4]}, "train_diffusion.norm": {"values": [False, True]}}


def loss(values) -> float:
    """The stand-in's validation loss; its best point is a rate of 3e-5 without weight decay."""
    return (math.log10(values[RATE]) - math.log10(3e-5)) ** 2 + values[DECAY]


@pytest.fixture
def project(tmp_path, monkeypatch):
    folder = shapes.make(tmp_path / "project", {"train_operator": [], "train_diffusion": ["train_operator"]}, {})
    (folder / "params/sweeps/all.yaml").unlink()
    text = (folder / "stage.py").read_text()
    done = '    (out / "metrics.json").write_text(json.dumps({'
    assert text.count(done) == 1
    how = (
        "    import math\n"
        '    o = raw["train_diffusion"]["optimization"]\n'
        '    found = (math.log10(o["learning_rate"]) - math.log10(3e-5)) ** 2 + o["weight_decay"]\n'
        '    if os.environ.get("DIVERGES") and o["weight_decay"] > 0.05: found = None\n'
    )
    (folder / "stage.py").write_text(text.replace(done, f'{how}{done}"val_loss": found, "train_loss": 0.0, '))
    monkeypatch.chdir(folder)
    for name, value in shapes.environment(folder).items():
        monkeypatch.setenv(name, value)
    return folder


def write(name: str, seeds=(42,), **changes) -> None:
    content = {"search": {**SEARCH, **changes}, "seeds": list(seeds)}
    Path(f"params/sweeps/{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


def begin(name: str, preset: str = "default") -> search.Searching:
    return search.begin(read_sweep(name), (), preset, None)


def execute(made):
    return sweep(made.jobs, 2, "s", False, (), made)


def expected(name: str) -> list[dict]:
    """What an uninterrupted search draws, from the loss in this file."""
    wanted, told = read_sweep(name).search, []
    while len(told) < wanted.trials:
        told += [Told(v, loss(v)) for v in draw(wanted, len(told), min(wanted.batch, wanted.trials - len(told)), told)]
    return [one.values for one in told]


def test_a_grid_is_planned_merged_with_its_base_and_run_once(project):
    write("s", sampler="grid", trials=4, space=GRID)
    planned = json.loads(shapes.ups(project, "plan", "--sweep", "s", "--json"))
    # One operator; golden's corrector is the grid's first point, so it is shared with that.
    assert (planned["executions"], planned["naive_executions"]) == (5, 10)
    report = json.loads(shapes.ups(project, "sweep", "--sweep", "s", "--json", "--no-publish", "--workers", "2"))
    assert sorted(shapes.executed(project)) == ["train_diffusion"] * 4 + ["train_operator"]
    assert [tuple(trial["values"].values()) for trial in report["search"]["trials"]] == [
        (3, False),
        (3, True),
        (4, False),
        (4, True),
    ]
    assert {trial["score"] for trial in report["search"]["trials"]} == {report["search"]["reference"]["score"]}
    assert "No trial is better on validation than golden" in shapes.ups(project, "plan", "--sweep", "s")
    write("s", sampler="grid", trials=3, space=GRID)
    with pytest.raises(ParameterError, match="the grid has 4 points"):
        read_sweep("s")
    write("s", sampler="grid", space={RATE: SPACE[RATE]})
    with pytest.raises(ParameterError, match="is an interval: a grid needs"):
        read_sweep("s")


def test_random_trials_lie_in_the_space_and_more_of_them_begin_with_the_same(project):
    write("s", trials=50)
    fifty = draw(read_sweep("s").search, 0, 50)
    write("s", trials=80)
    assert draw(read_sweep("s").search, 0, 80)[:50] == fifty
    write("s", trials=50, seed=1)
    assert all(one != other for one, other in zip(draw(read_sweep("s").search, 0, 50), fifty, strict=True))
    assert all(1e-5 <= one[RATE] <= 1e-4 and 0 <= one[DECAY] <= 0.1 for one in fifty)
    assert {one[f"{OPTIMIZATION}.epochs"] for one in fifty} == set(range(2, 11))
    # Half of them below the geometric mean of a logarithmic range: a uniform draw has a quarter (24 %) there.
    assert 15 <= sum(one[RATE] < 10**-4.5 for one in fifty) <= 35


def test_a_trial_is_a_variant_like_any_other_and_the_best_one_is_shown(project):
    write("s", trials=3)
    searching = begin("s")
    report = search.run(searching, execute)
    assert len(report.executed) == 1 + 4  # the operator; the correctors of three trials and of golden
    values = draw(read_sweep("s").search, 0, 3)
    best = min(range(3), key=lambda at: loss(values[at]))
    assert [trial.score for trial in searching.trials] == pytest.approx([loss(one) for one in values])
    assert searching.best.name == f"s-00{best}"
    text = search.table(searching)
    ranked = [line.split()[0] for line in text.splitlines()[1:5]]
    scores = {"golden": searching.reference.score, **{trial.name: trial.score for trial in searching.trials}}
    assert ranked == sorted(scores, key=scores.get)
    assert "are no claim" in text
    assert f"ups sweep golden s-00{best} --seeds 1-6\n" in text
    # What is shown can be copied as it is: a variant.
    copied = "\n".join(line[4:] for line in text.splitlines() if line.startswith("    ") and "ups " not in line)
    Path("params/variants/winner.yaml").write_text(copied)
    assert f"The same in all trials: {OPTIMIZATION}.min_learning_rate" in text
    assert {*read_variant("winner").varies} == {*SPACE}
    # Plan, results, comparison and report know the trial by its name.
    assert [(node.stage, node.action) for node in search.plan(jobs.resolve(["s-001"])).nodes] == [
        ("train_operator", "cached"),
        ("train_diffusion", "cached"),
    ]
    changed = {key: value for key, value in values[1].items() if value != golden(key)}
    assert results.read(results.find("s-001-42")).varies == changed
    assert declared_between("golden", "s-001") == list(SPACE)
    assert runs.choose(["s"]).variants == ("golden", "s-000", "s-001", "s-002")
    assert [job.name for job in jobs.choose(sweep="s")] == ["golden-42", "s-000-42", "s-001-42", "s-002-42"]


def golden(key: str):
    found = jobs.parameters(jobs.resolve(["golden"])[0])
    for part in key.split("."):
        found = found[part]
    return found


def test_tpe_learns_and_goes_on_where_it_was_killed(project):
    write("s", **TPE)
    wanted = expected("s")
    shown = shapes.ups(project, "plan", "--sweep", "s")
    assert "drawn as it goes, 2 at a time" in shown
    assert "0 over, 2 planned above, 4 not drawn yet" in shown
    process = shapes.start(project, "sweep", "--sweep", "s", "--no-publish")
    shapes.wait_for(lambda: len(list(Path("params/trials").glob("s-*.yaml"))) >= 4, 300)
    shapes.kill(process)
    process.wait()
    shapes.wait_for(lambda: not shapes.running(project), 60)
    before = len(shapes.executed(project))
    assert 3 <= before < 8
    report = json.loads(shapes.ups(project, "sweep", "--sweep", "s", "--json", "--no-publish", "--workers", "2"))
    assert [trial["values"] for trial in report["search"]["trials"]] == wanted
    assert [trial["score"] for trial in report["search"]["trials"]] == pytest.approx([loss(one) for one in wanted])
    # Whatever had ended before the kill is not run again: at most the stage that it hit is.
    assert before + len(shapes.executed(project)) <= 8 + 1
    assert "6 over, 0 planned above, 0 not drawn yet" in shapes.ups(project, "plan", "--sweep", "s")
    assert shapes.executed(project) == []
    with pytest.raises(UpsError, match=r"drawn as it goes.*ups sweep --sweep s"):
        jobs.choose(sweep="s")
    with pytest.raises(UpsError, match="the same names would stand for other trials"):
        search.begin(read_sweep("s"), (1, 2), "default", None)
    # Other scores under another preset are other trials, so they have other names.
    assert begin("s", "tiny").draw()[0].name == "s-tiny-000"


def test_tpe_draws_better_than_chance_and_from_the_scores():
    space = {RATE: Interval(1e-6, 1e-4, log=True), DECAY: Interval(0.0, 0.1)}
    chosen = search.Search("s", "golden", "tpe", 30, 1, 1, "train_diffusion", ("val_loss",), "minimize", space)

    def late_mean(direction: str) -> float:
        told: list[Told] = []
        wanted = search.replace(chosen, direction=direction)
        for number in range(30):
            values = draw(wanted, number, 1, told)[0]
            told.append(Told(values, loss(values)))
        return sum(one.score for one in told[15:]) / 15

    chance = [loss(values) for values in draw(search.replace(chosen, sampler="random"), 0, 200)]
    mean = sum(chance) / len(chance)
    assert late_mean("minimize") < 0.5 * mean < 1.3 * mean < late_mean("maximize")


@pytest.mark.parametrize(
    ("score", "said"),
    [
        ("evaluate.corrected.pdebench.nrmse", "is measured on the test split"),
        ("evaluate_ttc.search.pdebench.nrmse.mean", "is measured on the test split"),
        ("evaluate.assembled.pdebench.nrmse@h16", "is measured on the test split"),
        ("train_diffusion.train_loss", "is not measured on the validation split"),
        ("train_diffusion", "expected STAGE.METRIC"),
        (3, "expected STAGE.METRIC"),
    ],
)
def test_only_validation_may_choose(project, score, said):
    write("s", score=score)
    with pytest.raises(ParameterError, match=said):
        read_sweep("s")
    if score == "evaluate.corrected.pdebench.nrmse":
        assert said in shapes.ups(project, "sweep", "--sweep", "s", code=1)


def test_impossible_combinations_are_pruned_and_told(project):
    skip = {"train_diffusion.depth": {"values": [2, 3]}, "train_diffusion.skip": {"values": [False, True]}}
    write("s", sampler="grid", trials=4, space=skip)
    searching = begin("s")
    search.run(searching, execute)
    assert [bool(trial.pruned) for trial in searching.trials] == [False, True, False, False]
    assert "depth = 2 has none: use 3 or more" in searching.trials[1].pruned
    assert "s-001" in next(line for line in search.table(searching).splitlines() if "PRUNED" in line)
    assert not Path("params/trials/s-001.yaml").exists()
    assert "PRUNED, impossible: s-001" in shapes.ups(project, "plan", "--sweep", "s")
    # The sampler hears of it: after many refusals of one value it draws the other.
    write("s", sampler="tpe", trials=60, space=skip)
    told = [Told({"train_diffusion.depth": 2 + n % 2, "train_diffusion.skip": True}, n % 2 or None) for n in range(30)]
    drawn = [draw(read_sweep("s").search, n, 1, told)[0]["train_diffusion.depth"] for n in range(30, 60)]
    assert drawn.count(3) > 20


def test_what_has_no_score_says_why(project, monkeypatch):
    write("s", trials=3)
    monkeypatch.setenv("DIVERGES", "1")
    searching = begin("s")
    search.run(searching, execute)
    diverged = [one[DECAY] > 0.05 for one in draw(read_sweep("s").search, 0, 3)]
    assert any(diverged)
    assert not all(diverged)
    assert [trial.problem.endswith("is null") for trial in searching.trials] == diverged
    assert [trial.score is None for trial in searching.trials] == diverged
    write("s", trials=3, score="train_diffusion.val_los")
    with pytest.raises(ArtifactError, match=r"did not measure. On validation it measured val_loss"):
        search.look(begin("s"))
    write("s", trials=3, score="train_codec.val_loss")
    with pytest.raises(ParameterError, match=r"no stage 'train_codec'. The stages are train_diffusion, train_operator"):
        search.look(begin("s"))


def test_a_failed_trial_stops_no_other(project):
    write("s", trials=2)
    wanted = draw(read_sweep("s").search, 0, 2)[0][f"{OPTIMIZATION}.epochs"]
    text = (project / "stage.py").read_text()
    fails = f'if behaviour == "fail" or name == "train_diffusion" and raw[name]["optimization"]["epochs"] == {wanted}:'
    (project / "stage.py").write_text(text.replace('if behaviour == "fail":', fails))
    searching = begin("s")
    report = search.run(searching, execute)
    assert list(report.failures) == ["train_diffusion of s-000-42"]
    assert "FAILED" in searching.trials[0].problem
    assert searching.trials[1].score is not None


def test_trials_of_different_code_are_not_compared(project):
    """A list that is known in advance goes on like any sweep; what draws from scores stops."""

    def run(name):
        def execute_and_edit(made):
            report = execute(made)
            with Path("indirect.py").open("a") as file:
                file.write("# edited\n")
            return report

        searching = begin(name)
        search.run(searching, execute_and_edit)
        return searching

    write("s", trials=2)
    assert all(trial.score is not None for trial in run("s").trials)
    write("t", sampler="tpe", trials=2)
    with pytest.raises(UpsError, match=r"indirect.py was changed while the search t ran"):
        run("t")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sampler": "bayes"}, "grid"),
        ({"trails": 3}, "Did you mean 'trials'"),
        ({"trials": 0}, "expected a whole number from 1 on"),
        ({"batch": 2}, "is for the sampler tpe alone"),
        ({"direction": "minimise"}, "Did you mean 'minimize'"),
        ({"space": {"train_diffusion.dept": {"values": [2]}}}, "Did you mean 'train_diffusion.depth'"),
        ({"space": {"seed": {"values": [1, 2]}}}, "cannot be compared"),
        ({"space": {"data.splits.train": {"values": [[0, 1]]}}}, "cannot be compared"),
        ({"space": {DECAY: {"low": 0.1, "high": 0.0}}}, "expected low < high"),
        ({"space": {DECAY: {"low": 0.0, "high": 0.1, "log": True}}}, "expected 0 < low < high"),
        ({"space": {DECAY: {"low": 0.5, "high": 2, "integer": True}}}, "is not whole"),
        ({"space": {DECAY: {"values": [0.1, 0.1]}}}, "holds a value twice"),
        ({"space": {DECAY: [0.1, 0.2]}}, "expected {values: "),
        ({"space": {DECAY: SPACE[DECAY], OPTIMIZATION: {"values": [{}]}}}, "inside it. Keep one of them"),
        ({"space": {}}, "expected dotted parameters"),
    ],
)
def test_a_wrong_search_names_its_key(project, changes, said):
    write("s", **changes)
    with pytest.raises(ParameterError) as caught:
        read_sweep("s")
    assert said in str(caught.value)
    assert "params/sweeps/s.yaml" in str(caught.value)


def test_the_shipped_search_covers_the_recipes_ranges(monkeypatch):
    """science.md, section 4: epochs 2-10, lr 1e-6..1e-4, wd 0..0.1, clip .5..10, EMA .9...999."""
    monkeypatch.chdir(ROOT)
    wanted = read_sweep("corrector-search").search
    space = {key.removeprefix(f"{OPTIMIZATION}."): values for key, values in wanted.space.items()}
    bounds = {key: (v.low, v.high) for key, v in space.items() if isinstance(v, Interval)}
    assert bounds == {
        "epochs": (2, 10),
        "learning_rate": (1e-6, 1e-4),
        "weight_decay": (0.0, 0.1),
        "gradient_clip": (0.5, 10.0),
    }
    emas = space["ema_decay"]
    assert isinstance(emas, Choices)
    assert (min(emas.values), max(emas.values)) == (0.9, 0.999)
    assert wanted.base == "golden"
    # None of these is impossible, so none of the trials is lost.
    for values in draw(search.replace(wanted, sampler="random"), 0, 20):
        assert values[f"{OPTIMIZATION}.min_learning_rate"] <= values[RATE]
