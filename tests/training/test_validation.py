"""Validation during training: it changes nothing but what it is meant to decide."""

import dataclasses
import itertools

import hypothesis
import jax
import numpy as np
import pytest
from hypothesis import strategies as st

from jax_elastic.backbones.resnet import ResNet
from jax_elastic.data.data_config import DataConfig
from jax_elastic.data.datasets import load
from jax_elastic.elastic.plain import Plain
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.evaluate import Evaluator
from jax_elastic.training import workdir as workdirs
from jax_elastic.training.checkpoint import tree_hash
from jax_elastic.training.ema import moving_average
from jax_elastic.training.experiment import Experiment, Runtime, check_same
from jax_elastic.training.loop import train
from jax_elastic.training.metrics import MetricsFile
from jax_elastic.training.phases import Phase
from jax_elastic.training.validation import Best, describe

DATA, BATCH, STEPS = DataConfig(), 16, 6
RUNTIME = Runtime(log_every=1, save_every=2, validate_every=1)


NETWORK = Plain(ResNet((1,), width=4))


def phase(name="only", steps=STEPS):
    epochs = steps * BATCH / len(load(DATA, "train"))
    return Phase(name, epochs, "base", 0.1, batch_size=BATCH)


def experiment(*phases, **fields):
    settings = {"data": DATA, "runtime": RUNTIME, "steps_per_dispatch": 4, **fields}
    return Experiment(network=NETWORK, phases=phases or (phase(),), **settings)


class Judge:
    """A validation that gives scores of a list, and keeps what it saw."""

    def __init__(self, *scores):
        self.scores = itertools.chain(scores, itertools.repeat(0.0))
        self.seen = []

    def __call__(self, variables):
        self.seen.append(jax.tree.map(np.array, variables))
        return {"score": next(self.scores)}


def run(made, workdir, validate=None, report=lambda line: None):
    workdirs.claim(workdir, made)
    return train(made, workdir, validate, jax.devices()[:1], report)


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """A run whose third validation is the best one, and its judge."""
    workdir, judge = tmp_path_factory.mktemp("judged"), Judge(0.1, 0.2, 0.4, 0.3, 0.4, 0.2)
    return workdir, judge, run(experiment(), workdir, judge)


@hypothesis.given(st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4]), min_size=1, max_size=9))
def test_the_best_is_the_first_of_the_highest_scores(scores):
    best = Best()
    for step, score in enumerate(scores):
        best = best.after(score, step)
    assert best == (max(scores), scores.index(max(scores)), len(scores) - 1 - best.step)
    assert Best.from_meta(best.to_meta()) == best


def test_validation_does_not_change_training(judged, tmp_path):
    evaluator = Evaluator(NETWORK, load(DATA, "validation"), DATA)

    def validate(variables):
        return {"score": evaluator(variables).rows[0]["top1"]}

    silent = run(experiment(), tmp_path / "silent")
    evaluated = run(experiment(), tmp_path / "evaluated", validate)
    for state in (evaluated, judged[2]):
        assert tree_hash(state.variables) == tree_hash(silent.variables)
    *_, last = MetricsFile(tmp_path / "evaluated" / "metrics.jsonl").rows()
    assert (last["kind"], last["step"]) == ("validation", STEPS)
    assert last["score"] == validate(silent.variables)["score"]


def test_the_best_checkpoint_is_kept_beside_the_newest(judged):
    workdir, judge, state = judged
    _, best, _ = workdirs.load(workdir, "best")
    _, newest, _ = workdirs.load(workdir)
    assert tree_hash(best) == tree_hash(judge.seen[2])
    assert tree_hash(newest) == tree_hash(state.variables)
    assert [path.name for path in (workdir / "best").glob("[0-9]*")] == ["3"]


def test_without_a_validation_there_is_no_best_checkpoint(tmp_path):
    run(experiment(), tmp_path)
    with pytest.raises(UsageError, match=r"has no best checkpoint; train with validations"):
        workdirs.load(tmp_path, "best")


def steps_validated(workdir):
    rows = MetricsFile(workdir / "metrics.jsonl").rows()
    return [row["step"] for row in rows if row["kind"] == "validation"]


def test_training_ends_when_patience_does_and_is_not_taken_up_again(tmp_path):
    lines = []
    impatient = experiment(patience=2)
    state = run(impatient, tmp_path, Judge(0.1, 0.3, 0.2, 0.3), lines.append)
    assert int(state.step) == 4
    assert steps_validated(tmp_path) == [1, 2, 3, 4]
    assert "patience has ended: the best score, 0.3, is that of step 2" in lines
    again, judge = [], Judge()
    state = run(impatient, tmp_path, judge, again.append)
    assert (int(state.step), judge.seen) == (4, [])
    assert again[-1] == lines[-1]


def test_the_step_at_which_patience_ends_has_a_checkpoint(tmp_path):
    judge = Judge(0.3, 0.2, 0.1)
    run(experiment(patience=2), tmp_path, judge)
    # Nothing else saves at step 3.
    assert (tmp_path / "checkpoints" / "3").is_dir()
    _, newest, _ = workdirs.load(tmp_path)
    assert tree_hash(newest) == tree_hash(judge.seen[2])


def test_no_later_phase_is_begun_once_patience_has_ended(tmp_path):
    made = experiment(phase("first", steps=2), phase("second", steps=2), patience=1)
    state = run(made, tmp_path, Judge(0.3, 0.2))
    assert steps_validated(tmp_path) == [1, 2]
    rows = MetricsFile(tmp_path / "metrics.jsonl").rows()
    assert {row["phase"] for row in rows} == {"first"}
    # The optimizer is that of the first phase: that of the second would begin with zeros.
    assert any(np.any(leaf) for leaf in jax.tree.leaves(state.opt_state))


class Interrupted(Exception):
    """Stands for a kill."""


def test_patience_goes_on_where_a_run_was_interrupted(tmp_path):
    def interrupt(line):
        if f"step 4/{STEPS}" in line:
            raise Interrupted

    impatient = experiment(patience=3)
    with pytest.raises(Interrupted):
        run(impatient, tmp_path, Judge(0.1, 0.3, 0.2), interrupt)
    # The newest checkpoint is that of step 2: the third validation is repeated.
    state = run(impatient, tmp_path, Judge(0.2, 0.2, 0.1))
    assert int(state.step) == 5
    assert steps_validated(tmp_path) == [1, 2, 3, 4, 5]
    assert [path.name for path in (tmp_path / "best").glob("[0-9]*")] == ["2"]


def test_patience_without_validation_data_is_refused():
    with pytest.raises(UsageError, match=r"config.patience needs validations"):
        experiment(patience=1, data=dataclasses.replace(DATA, validation=0.0))


def test_patience_that_nothing_validates_for_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"config.patience is set, but nothing validates"):
        run(experiment(patience=1), tmp_path)


@pytest.mark.parametrize("patience,refused", [(0, False), (1, True)])
def test_when_to_validate_may_change_where_it_decides_nothing(patience, refused):
    old = experiment(patience=patience)
    new = dataclasses.replace(old, runtime=dataclasses.replace(RUNTIME, validate_every=3))
    if refused:
        with pytest.raises(UsageError, match=r"config.runtime.validate_every: 1 -> 3"):
            check_same(old, new, "runs/a")
    else:
        check_same(old, new, "runs/a")


@pytest.fixture(scope="module")
def averaged(tmp_path_factory):
    """A run that keeps a moving average, and its judge, who sees it."""
    workdir = tmp_path_factory.mktemp("averaged")
    judge = Judge(0.1, 0.2, 0.4, 0.3, 0.4, 0.2)
    return workdir, judge, run(experiment(ema_decay=0.3), workdir, judge)


@pytest.mark.slow
def test_the_moving_average_is_that_of_the_variables_after_every_step(judged, averaged):
    (_, raw, state), (_, judge, averaged_state) = judged, averaged
    # Keeping it does not change training.
    assert tree_hash(averaged_state.variables) == tree_hash(state.variables)
    expected = judge.seen[0]
    for step in range(1, STEPS):
        expected = moving_average(expected, raw.seen[step], 0.3, np.int32(step))
        # Float32 roundings of a mean.
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
            judge.seen[step],
            expected,
        )


def test_what_is_loaded_is_the_moving_average(averaged):
    workdir, judge, state = averaged
    _, variables, _ = workdirs.load(workdir)
    assert tree_hash(variables) == tree_hash(judge.seen[-1]) == tree_hash(state.ema)
    assert tree_hash(variables) != tree_hash(state.variables)


def test_the_best_checkpoint_holds_the_moving_average(averaged):
    workdir, judge, _ = averaged
    _, best, _ = workdirs.load(workdir, "best")
    assert tree_hash(best) == tree_hash(judge.seen[2])


def test_a_restart_does_not_change_the_moving_average(averaged, tmp_path):
    def interrupt(line):
        if f"step 5/{STEPS}" in line:
            raise Interrupted

    made = experiment(ema_decay=0.3)
    with pytest.raises(Interrupted):
        run(made, tmp_path, Judge(), interrupt)
    assert tree_hash(run(made, tmp_path, Judge()).ema) == tree_hash(averaged[2].ema)


def accuracies(n):
    """Of n points, the second of which is the best."""
    points = {f"top1[width:{k}]": 0.5 + 0.01 * k for k in range(1, n + 1)}
    return {"score": 0.6, **points, "top1[width:2]": 0.99, "usage@0.5": 0.4}


def test_few_accuracies_are_all_shown():
    line = describe(accuracies(8))
    assert line.startswith("score 0.6  top1[width:1] 0.51  top1[width:2] 0.99  ")
    assert line.endswith("top1[width:8] 0.58  usage@0.5 0.4")


def test_of_many_accuracies_the_ends_the_best_and_the_mean_are_shown():
    assert describe(accuracies(27)) == (
        "score 0.6  top1[width:1] 0.51  top1[width:27] 0.77  best of 27: top1[width:2] 0.99"
    )


@pytest.mark.parametrize(
    ("meta", "patience", "told"),
    [
        ({"step": 4, "planned": 9, "best": None}, 0, "step 4 of 9: training is not finished"),
        (
            {"step": 4, "planned": 9, "best": [0.5, 2, 1]},
            2,
            "step 4 of 9: training is not finished",
        ),
        ({"step": 4, "planned": 9, "best": [0.5, 2, 2]}, 2, ""),
        ({"step": 9, "planned": 9, "best": None}, 0, ""),
        ({"step": 4}, 0, ""),
    ],
    ids=["stopped", "still patient", "patience ended", "done", "older version"],
)
def test_a_run_that_neither_reached_its_end_nor_lost_patience_is_unfinished(meta, patience, told):
    assert workdirs.unfinished(meta, patience) == told
