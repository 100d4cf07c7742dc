"""The loop: what it writes, what it leaves alone, and that a restart changes nothing (law 6)."""

import dataclasses
import re

import chex
import jax
import numpy as np
import pytest
from thorough import thorough
from toy import Toy

from jax_elastic.backbones.resnet import ResNet
from jax_elastic.data.data_config import DataConfig
from jax_elastic.data.datasets import load
from jax_elastic.elastic.urnet.urnet import URNet
from jax_elastic.errors import UsageError
from jax_elastic.training import workdir as workdirs
from jax_elastic.training.checkpoint import Checkpoints, tree_hash
from jax_elastic.training.experiment import Experiment, Runtime
from jax_elastic.training.log import NonFiniteLossError
from jax_elastic.training.loop import train
from jax_elastic.training.metrics import MetricsFile
from jax_elastic.training.phases import Phase
from jax_elastic.training.trainable import partition

DATA = DataConfig()
BATCH, BASE, GATES = 16, 5, 5
STEPS = BASE + GATES
RUNTIME = Runtime(log_every=1, save_every=3)
SPEED = ("seconds", "images_per_second", "seconds_to_go")


def phase(name, steps, objective, learning_rate=0.1, **fields):
    epochs = steps * BATCH / len(load(DATA, "train"))
    return Phase(name, epochs, objective, learning_rate, batch_size=BATCH, **fields)


def urnet(**fields):
    gates = phase("gates", GATES, "gated", 0.01, trainable="/gate/", bn="running", optimizer="adam")
    phases = (phase("base", BASE, "base", validate=False), gates)
    # p = .5, so that a few steps surely train some gates.
    network = URNet(ResNet((1, 1), width=4), p=0.5)
    settings = {"data": DATA, "runtime": RUNTIME, "steps_per_dispatch": 4, **fields}
    return Experiment(network=network, phases=phases, **settings)


def toy(**fields):
    head = phase("head", GATES, "shallow", 0.05, trainable="^head", schedule="cosine")
    settings = {"data": DATA, "runtime": RUNTIME, "steps_per_dispatch": 4, **fields}
    return Experiment(network=Toy(), phases=(phase("all", BASE, "both"), head), **settings)


def run(experiment, workdir, report=lambda line: None, validate=None, devices=1):
    return train(experiment, workdir, validate, jax.devices()[:devices], report)


class Interrupted(Exception):
    """Stands for Ctrl-C, preemption, or whatever ends a run."""


def interrupting(step):
    """A `report` that ends the run as soon as the row of a step is written."""

    def report(line):
        if f"step {step}/" in line:
            raise Interrupted

    return report


def size_of_weights(variables):
    """A cheap validation: a number that depends on every parameter."""
    leaves = jax.tree.leaves(variables["params"])
    return {"size": float(sum(np.abs(leaf, dtype=np.float64).sum() for leaf in leaves))}


def rows(workdir):
    """The metric rows, without what depends on the clock."""
    found = MetricsFile(workdir / "metrics.jsonl").rows()
    return [{key: row[key] for key in row if key not in SPEED} for row in found]


def values(variables):
    """A copy that survives the donation of the original."""
    return jax.tree.map(np.array, variables)


@dataclasses.dataclass
class Whole:
    """A run that nothing interrupted, and the variables that its validations saw."""

    workdir: object
    state: object
    seen: list
    lines: list


def whole_run(experiment, workdir):
    seen, lines = [], []

    def validate(variables):
        seen.append(values(variables))
        return size_of_weights(variables)

    return Whole(workdir, run(experiment, workdir, lines.append, validate), seen, lines)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("urnet")
    workdirs.claim(workdir, urnet())
    return whole_run(urnet(), workdir)


@pytest.fixture(scope="module")
def whole_toy(tmp_path_factory):
    return whole_run(toy(), tmp_path_factory.mktemp("toy"))


def test_every_step_of_every_phase_has_its_row(whole):
    found = [row for row in rows(whole.workdir) if row["kind"] == "train"]
    assert [row["step"] for row in found] == list(range(1, STEPS + 1))
    assert [row["phase"] for row in found] == ["base"] * BASE + ["gates"] * GATES
    assert all(row["steps"] == 1 and row["loss"] > 0 for row in found)
    size = len(load(DATA, "train"))
    np.testing.assert_allclose([row["epoch"] for row in found], np.arange(1, 11) * BATCH / size)
    assert ["usage" in row for row in found] == [False] * BASE + [True] * GATES


def test_a_row_over_several_steps_is_their_mean(whole, tmp_path):
    run(urnet(runtime=Runtime(log_every=5, save_every=1000)), tmp_path)
    singles = [row for row in rows(whole.workdir) if row["kind"] == "train"]
    first, second = rows(tmp_path)
    assert (first["step"], first["steps"], second["step"]) == (5, 5, 10)
    for name in ("loss", "top1"):
        # Float32 sums in another order.
        mean = np.mean([row[name] for row in singles[:5]])
        np.testing.assert_allclose(first[name], mean, rtol=1e-6)


def test_validation_has_rows_only_in_phases_that_want_it(whole):
    found = [row for row in rows(whole.workdir) if row["kind"] == "validation"]
    expected = {"kind": "validation", "step": STEPS, "phase": "gates"}
    assert found == [{**expected, **size_of_weights(whole.seen[-1])}]


def test_validation_comes_at_its_interval_and_at_the_end_of_a_phase(tmp_path):
    experiment = toy(runtime=Runtime(log_every=100, validate_every=2))
    run(experiment, tmp_path, validate=size_of_weights)
    found = [row["step"] for row in rows(tmp_path) if row["kind"] == "validation"]
    assert found == [2, 4, 5, 6, 8, 10]


def test_the_last_line_gives_the_hash_of_the_variables(whole):
    assert whole.lines[-1] == f"done: step {STEPS}, variables {tree_hash(whole.state.variables)}"


@pytest.fixture(scope="module")
def after_base(whole):
    """Variables at the end of the base phase, from that phase's own run."""
    experiment = dataclasses.replace(urnet(), phases=urnet().phases[:1])
    return values(run(experiment, whole.workdir.with_name("base")).variables)


def is_gate(path):
    return "/gate/" in jax.tree_util.keystr(path, simple=True, separator="/")


def test_a_phase_that_trains_gates_leaves_everything_else_bit_for_bit(whole, after_base):
    before = jax.tree_util.tree_leaves_with_path(after_base)
    after = jax.tree_util.tree_leaves_with_path(values(whole.state.variables))
    assert sum(is_gate(path) for path, _ in before) == 8  # two dense layers in two blocks
    changed = [
        path for (path, old), (_, new) in zip(before, after, strict=True) if (old != new).any()
    ]
    assert changed
    assert all(is_gate(path) for path in changed)


def test_a_phase_without_gates_does_not_touch_them(whole, after_base):
    fresh = []
    still = dataclasses.replace(urnet(), phases=(phase("still", 1, "base", 1e-30),))
    run(still, whole.workdir.with_name("still"), validate=lambda v: fresh.append(values(v)) or {})
    expected, found = (partition(tree["params"], "/gate/")[0] for tree in (fresh[0], after_base))
    chex.assert_trees_all_equal(found, expected)


def test_only_what_a_phase_trains_has_optimizer_state(whole):
    moments = jax.tree_util.tree_leaves_with_path(whole.state.opt_state)
    weights = [path for path, leaf in moments if leaf.ndim]
    assert weights
    assert all(is_gate(path) for path in weights)


# In the first phase after a checkpoint, in the second; before any checkpoint, and at the end.
@pytest.mark.parametrize("step", thorough([4, 6, 2, 10], (4, 6).__contains__))
def test_a_run_interrupted_after_any_step_ends_with_the_same_bits_and_rows(
    whole_toy, tmp_path, step
):
    with pytest.raises(Interrupted):
        run(toy(), tmp_path, interrupting(step), size_of_weights)
    lines = []
    state = run(toy(), tmp_path, lines.append, size_of_weights)
    assert ("resuming" in lines[0]) == (step > RUNTIME.save_every)
    assert tree_hash(state) == tree_hash(whole_toy.state)
    assert rows(tmp_path) == rows(whole_toy.workdir)


@pytest.mark.slow
def test_a_urnet_interrupted_among_its_gates_ends_with_the_same_bits_and_rows(whole, tmp_path):
    with pytest.raises(Interrupted):
        run(urnet(), tmp_path, interrupting(8), size_of_weights)
    state = run(urnet(), tmp_path, validate=size_of_weights)
    assert tree_hash(state) == tree_hash(whole.state)
    assert rows(tmp_path) == rows(whole.workdir)


def test_logging_saving_and_validating_at_other_steps_changes_no_bit(whole_toy, tmp_path):
    often = Runtime(log_every=2, save_every=1, validate_every=2)
    with pytest.raises(Interrupted):
        run(toy(runtime=often), tmp_path, interrupting(8), size_of_weights)
    seldom = Runtime(log_every=7, save_every=1000, validate_every=4, keep=1)
    state = run(toy(runtime=seldom), tmp_path, validate=size_of_weights)
    assert tree_hash(state) == tree_hash(whole_toy.state)


def test_several_draws_in_an_order_of_their_own_may_share_a_dispatch(whole_toy, tmp_path):
    # Dispatches of up to four steps, cut where the order of the draws changes.
    state = run(toy(runtime=Runtime(log_every=100)), tmp_path)
    assert tree_hash(state) == tree_hash(whole_toy.state)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 4])
def test_steps_per_dispatch_change_no_bit_of_a_urnet(whole, tmp_path, steps):
    experiment = urnet(steps_per_dispatch=steps, runtime=Runtime(log_every=100))
    assert tree_hash(run(experiment, tmp_path)) == tree_hash(whole.state)


def test_the_checkpoint_at_the_end_of_a_phase_belongs_to_that_phase(tmp_path):
    # The first row of the second phase, before its first checkpoint.
    with pytest.raises(Interrupted):
        run(toy(), tmp_path, interrupting(BASE + 1))
    met = []
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.restore(lambda meta: met.append(meta) or {})
    assert (met[0]["step"], met[0]["phase"], met[0]["phase_name"]) == (BASE, 0, "all")


@pytest.fixture(scope="module")
def diverged(tmp_path_factory):
    """A run whose second phase has a learning rate of 1e30, and how it ended."""
    workdir = tmp_path_factory.mktemp("diverged")
    phases = (phase("sane", 4, "both"), phase("wild", 8, "both", 1e30))
    experiment = dataclasses.replace(toy(runtime=Runtime(log_every=1, save_every=4)), phases=phases)
    with pytest.raises(NonFiniteLossError) as error:
        run(experiment, workdir)
    return workdir, str(error.value)


def test_a_loss_that_is_not_finite_names_step_phase_and_the_last_good_checkpoint(diverged):
    workdir, message = diverged
    found = re.fullmatch(
        r"the loss is (nan|inf) at step (\d+), phase 'wild'; the last good checkpoint is step 4; "
        r"lower the learning rate of that phase \(in a new workdir\), or look at its inputs",
        message,
    )
    assert found, message
    # Rows are named by the steps done, so the row before ends where the bad step begins.
    assert rows(workdir)[-1]["step"] == int(found[2]) > 4


def test_after_a_loss_that_is_not_finite_no_checkpoint_is_written(diverged):
    workdir, _ = diverged
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        assert checkpoints.latest == 4


class Overflowing(Toy):
    """A toy whose statistics become infinite while its losses stay finite."""

    def fold(self, stats, aux):
        return jax.tree.map(
            lambda leaf: leaf + np.inf if leaf.dtype == np.float32 else leaf,
            super().fold(stats, aux),
        )


def test_variables_that_are_not_finite_are_not_saved_though_the_loss_is(tmp_path):
    broken = dataclasses.replace(toy(runtime=Runtime(save_every=2)), network=Overflowing())
    with pytest.raises(NonFiniteLossError, match="the state is not finite after step 2"):
        run(broken, tmp_path)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.latest is None


def test_a_loss_that_is_not_finite_before_any_checkpoint_says_so(tmp_path):
    experiment = dataclasses.replace(toy(), phases=(phase("wild", 8, "both", 1e30),))
    experiment = dataclasses.replace(experiment, runtime=Runtime(log_every=8))
    with pytest.raises(NonFiniteLossError, match="no checkpoint; lower the learning rate"):
        run(experiment, tmp_path)


# Of a URNet the test below has it, over many steps.
def test_one_and_eight_devices_begin_with_the_same_loss(whole_toy, tmp_path):
    experiment = dataclasses.replace(toy(), phases=(phase("all", 1, "both"),))
    run(experiment, tmp_path, devices=8)
    # Float32 sums in another order: some 1e-7 each.
    first, expected = rows(tmp_path)[0]["loss"], rows(whole_toy.workdir)[0]["loss"]
    np.testing.assert_allclose(first, expected, rtol=1e-5)


def wide_run(workdir, devices):
    """20 float64 steps of a whole URNet: gates, statistics, a block that changes the shape."""
    network = URNet(ResNet((1, 1), width=4), dtype="float64")
    phases = (phase("joint", 20, "gated", 0.02),)
    experiment = Experiment(network=network, phases=phases, data=DATA)
    with jax.enable_x64(True):
        state = run(experiment, workdir, devices=devices)
        return len(state.step.devices()), values(state.variables)


@pytest.mark.slow
def test_one_and_eight_devices_train_the_same_network_in_float64(tmp_path):
    (one, expected), (eight, found) = (wide_run(tmp_path / str(n), n) for n in (1, 8))
    assert (one, eight) == (1, 8)

    def share(a, b):
        assert a.dtype == b.dtype != np.float32
        return np.abs(a - b).max() / max(np.abs(a).max(), 1e-30)

    # Sums in another order, grown over 20 steps; relative to the largest of each leaf.
    worst = max(jax.tree.leaves(jax.tree.map(share, expected, found)))
    assert worst < 1e-10


def test_a_workdir_gives_back_the_network_that_was_trained_in_it(whole):
    network, variables, experiment = workdirs.load(whole.workdir)
    assert (network, experiment) == (urnet().network, urnet())
    assert tree_hash(variables) == tree_hash(whole.state.variables)


def test_a_workdir_may_be_claimed_again_with_another_runtime(tmp_path):
    workdirs.claim(tmp_path, urnet())
    workdirs.claim(tmp_path, urnet(runtime=Runtime(save_every=7)))
    assert workdirs.read_config(tmp_path).runtime.save_every == 7


@pytest.mark.parametrize(
    "change,told",
    [
        (lambda data: {"class_names": ("zero", *data.class_names[1:])}, "other classes"),
        (lambda data: {"labels": 9 - data.labels}, "other images or labels"),
        (lambda data: {"images": 255 - data.images}, "other images or labels"),
    ],
    ids=["class_names", "labels", "images"],
)
def test_a_run_does_not_go_on_over_another_training_set(whole_toy, monkeypatch, change, told):
    data = load(DATA, "train")
    other = dataclasses.replace(data, **change(data))
    monkeypatch.setattr("jax_elastic.training.loop.load_to_train", lambda config: other)
    with pytest.raises(UsageError, match=f"not the one of checkpoint {STEPS}: it has {told}"):
        run(toy(), whole_toy.workdir)


def test_a_workdir_of_another_config_is_refused_and_left_alone(tmp_path):
    workdirs.claim(tmp_path, urnet())
    (tmp_path / "checkpoints" / "1").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"belongs to another config; .*config.seed: 0 -> 3"):
        workdirs.claim(tmp_path, urnet(seed=3))
    assert workdirs.read_config(tmp_path) == urnet()


def test_a_workdir_without_a_checkpoint_may_be_claimed_by_a_corrected_config(tmp_path):
    workdirs.claim(tmp_path, urnet())
    workdirs.claim(tmp_path, urnet(seed=3))
    assert workdirs.read_config(tmp_path) == urnet(seed=3)


def test_a_pattern_that_trains_nothing_is_refused_before_the_first_phase(tmp_path):
    wrong = dataclasses.replace(urnet().phases[1], trainable="/gaets/")
    experiment = dataclasses.replace(urnet(), phases=(urnet().phases[0], wrong))
    with pytest.raises(UsageError, match="trainable '/gaets/' matches no parameter"):
        run(experiment, tmp_path)
    assert rows(tmp_path) == []


def test_a_directory_without_a_config_is_no_workdir(tmp_path):
    with pytest.raises(UsageError, match=r"is not a workdir: it has no config.json; train first"):
        workdirs.load(tmp_path)


def test_a_workdir_whose_config_is_no_json_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UsageError, match=r"config.json is not JSON"):
        workdirs.load(tmp_path)


def test_a_workdir_without_a_checkpoint_has_nothing_to_load(tmp_path):
    workdirs.claim(tmp_path, urnet())
    told = rf"{tmp_path} has no checkpoint yet; .* every 3 steps .*; train .* --workdir={tmp_path}$"
    with pytest.raises(UsageError, match=told):
        workdirs.load(tmp_path)


def test_a_checkpoint_of_another_network_is_not_loaded(whole, tmp_path):
    wider = dataclasses.replace(urnet(), network=URNet(ResNet((1, 1), width=6)))
    workdirs.claim(tmp_path, wider)
    (tmp_path / "checkpoints").symlink_to(whole.workdir / "checkpoints")
    with pytest.raises(UsageError, match=r"of another network: .*\[1, 4\], not .*\[1, 6\]"):
        workdirs.load(tmp_path)


def test_classes_that_are_not_those_of_the_data_are_refused(tmp_path):
    experiment = dataclasses.replace(urnet(), network=URNet(ResNet((1, 1), 4, classes=7)))
    with pytest.raises(UsageError, match=r"the network has \(7,\) classes, digits has \(10,\)"):
        run(experiment, tmp_path)


def test_a_batch_that_the_devices_cannot_share_is_refused_before_training(tmp_path):
    with pytest.raises(UsageError, match="batch_size 16 of phase 'all' cannot be shared by 3"):
        run(toy(), tmp_path, devices=3)
    assert rows(tmp_path) == []
