"""Starting weights from another run: what is taken, what is told, and what is refused."""

import dataclasses
import re
import shutil

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from jax_elastic.backbones.resnet import ResNet
from jax_elastic.data.data_config import DataConfig
from jax_elastic.data.datasets import load
from jax_elastic.elastic.plain import Plain
from jax_elastic.elastic.registry import FAMILIES
from jax_elastic.errors import UsageError
from jax_elastic.training import workdir as workdirs
from jax_elastic.training.checkpoint import tree_hash
from jax_elastic.training.ema import moving_average
from jax_elastic.training.experiment import Experiment, Runtime
from jax_elastic.training.init_from import match_leaves, start_from
from jax_elastic.training.loop import train
from jax_elastic.training.metrics import MetricsFile
from jax_elastic.training.phases import Phase
from jax_elastic.training.stop import Stopped

URNet = FAMILIES["urnet"]
DATA, BATCH = DataConfig(), 16
BACKBONE = ResNet((1, 1), width=4)
GATE_LEAVES = 8  # two dense layers in two blocks
CLOCK = ("seconds", "images_per_second", "seconds_to_go")


def phase(name, steps, objective, **fields):
    epochs = steps * BATCH / len(load(DATA, "train"))
    return Phase(name, epochs, objective, 0.05, batch_size=BATCH, **fields)


BASE = phase("base", 4, "base", pretrain=True)
GATES = phase("gates", 3, "gated", trainable="/gate/", bn="running", optimizer="adam")


def experiment(network, *phases, **settings):
    runtime = Runtime(log_every=1, save_every=2)
    return Experiment(network=network, phases=phases, data=DATA, runtime=runtime, **settings)


def urnet(init_from="", **fields):
    network = URNet(dataclasses.replace(BACKBONE, **fields), p=0.5)
    return experiment(network, BASE, GATES, init_from=str(init_from))


def run(experiment, workdir, report=lambda line: None, stop=None):
    workdirs.claim(workdir, experiment)
    return train(experiment, workdir, None, jax.devices()[:1], report, stop)


def rows(workdir):
    found = MetricsFile(workdir / "metrics.jsonl").rows()
    return [{key: row[key] for key in row if key not in CLOCK} for row in found]


def flat(variables):
    return flatten_dict(jax.device_get(variables), sep="/")


@dataclasses.dataclass
class Run:
    """A run that is over."""

    workdir: object
    variables: object
    lines: list

    @property
    def row(self):
        return rows(self.workdir)[0]


def finished(experiment, workdir):
    lines = []
    state = run(experiment, workdir, lines.append)
    return Run(workdir, state.variables, lines)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A network without gates, trained for four steps."""
    return finished(experiment(Plain(BACKBONE), BASE), tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def gated(base, tmp_path_factory):
    """A URNet whose gates alone were trained, on that base."""
    return finished(urnet(base.workdir), tmp_path_factory.mktemp("gated"))


def test_the_base_is_taken_and_the_phase_that_makes_one_is_left_out(base, gated):
    assert [row["phase"] for row in rows(gated.workdir)[1:]] == ["gates"] * 3
    after = flat(gated.variables)
    for path, leaf in flat(base.variables).items():
        np.testing.assert_array_equal(after[path], leaf)


def test_what_was_taken_and_what_stays_fresh_is_told(base, gated):
    leaves = len(jax.tree.leaves(base.variables))
    taken, fresh = gated.lines[:2]
    assert taken == (
        f"starting from {base.workdir}, step 4, variables {tree_hash(base.variables)}: "
        f"{leaves} leaves taken"
    )
    told = f"8 leaves of this network are not in {re.escape(str(base.workdir))} and start fresh"
    assert re.fullmatch(rf"{told}: params/.*/gate/.* and 3 more", fresh)
    assert gated.lines[2].startswith("   gates  step 1/3")


def test_the_first_metric_row_tells_the_same(base, gated):
    row = dict(gated.row)
    fresh = row.pop("fresh")
    assert len(fresh) == GATE_LEAVES and all("/gate/" in path for path in fresh)
    assert row == {
        "kind": "start",
        "step": 0,
        "init_from": str(base.workdir),
        "init_step": 4,
        "init_hash": tree_hash(base.variables),
        "taken": len(jax.tree.leaves(base.variables)),
        "dropped": [],
        "anew": [],
    }


def test_the_run_is_that_of_a_network_which_begins_with_these_variables(base, gated, tmp_path):
    class Given(URNet):
        """Begins with the weights of the base, and its own gates."""

        def init(self, key, images):
            fresh = flatten_dict(super().init(key, images), sep="/")
            return unflatten_dict({**fresh, **flat(base.variables)}, sep="/")

    given = experiment(Given(BACKBONE, p=0.5), GATES)
    state = train(given, tmp_path, None, jax.devices()[:1], lambda line: None)
    assert tree_hash(state.variables) == tree_hash(gated.variables)


def test_a_restarted_run_ends_with_the_same_bits_and_rows_and_needs_the_base_no_more(
    base, gated, tmp_path
):
    moved = tmp_path / "base"
    shutil.copytree(base.workdir, moved)
    with pytest.raises(Stopped):
        run(urnet(moved), tmp_path / "run", stop=lambda: True)
    shutil.rmtree(moved)
    state = run(urnet(moved), tmp_path / "run")
    assert tree_hash(state.variables) == tree_hash(gated.variables)
    first, *others = rows(tmp_path / "run")
    assert first == {**gated.row, "init_from": str(moved)}
    assert others == rows(gated.workdir)[1:]


def test_a_network_without_gates_drops_those_of_the_checkpoint(gated, tmp_path):
    plain = experiment(Plain(BACKBONE), phase("more", 1, "base"), init_from=str(gated.workdir))
    found = finished(plain, tmp_path)
    assert found.row["fresh"] == []
    assert len(found.row["dropped"]) == GATE_LEAVES
    assert found.lines[1].startswith(
        f"8 leaves of {gated.workdir} are not in this network and are left out: params/"
    )


def test_the_moving_average_begins_at_the_weights_that_were_taken(base, tmp_path):
    more = experiment(
        Plain(BACKBONE), phase("more", 1, "base"), init_from=str(base.workdir), ema_decay=0.9
    )
    state = run(more, tmp_path)
    expected = moving_average(base.variables, state.variables, 0.9, np.int32(0))
    # Float32 roundings of a mean.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), state.ema, expected
    )


def test_what_a_run_begins_with_as_configured_is_not_taken_and_is_told(base):
    class Counting(Plain):
        """Its stem's BN counts updates from the start of each run."""

        begins_anew = ("stats/stem/bn/count",)

    network, place = Counting(BACKBONE), jax.sharding.SingleDeviceSharding(jax.devices()[0])
    fresh = jax.tree.map(np.zeros_like, jax.device_get(base.variables))
    start = start_from(str(base.workdir), network, fresh, (BASE,), place)

    before, after = flat(base.variables), flat(start.variables)
    assert start.row["anew"] == ["stats/stem/bn/count"]
    assert start.lines[1] == (
        f"1 leaves are not taken from {base.workdir} but begin as configured: stats/stem/bn/count"
    )
    assert start.row["taken"] == len(before) - 1
    assert (before.pop("stats/stem/bn/count"), after.pop("stats/stem/bn/count")) == (4, 0)
    jax.tree.map(np.testing.assert_array_equal, after, before)


def test_without_init_from_a_phase_that_pretrains_is_run():
    assert urnet().phases_run == (BASE, GATES)
    assert urnet("elsewhere").phases_run == (GATES,)


def test_a_run_that_would_have_no_phase_is_refused():
    with pytest.raises(UsageError, match="leaves no phase to run: all of config"):
        experiment(Plain(BACKBONE), BASE, init_from="elsewhere")


def test_another_width_is_refused_by_the_name_of_a_leaf(base, tmp_path):
    message = r"does not fit this network: .*params/.* is float32\[1, 4\] there and float32\[1, 6\]"
    with pytest.raises(UsageError, match=message):
        run(urnet(base.workdir, width=6), tmp_path)
    assert rows(tmp_path) == []


def test_a_parameter_that_would_stay_as_it_was_drawn_for_ever_is_refused(base, tmp_path):
    head = phase("head", 1, "gated", trainable="^head")
    never = experiment(URNet(BACKBONE), head, init_from=str(base.workdir))
    with pytest.raises(UsageError, match=r"lacks .*/gate/.*, which no phase that is run \(head\)"):
        run(never, tmp_path)


def test_what_only_finetunes_takes_no_network_whose_gates_were_never_trained(base, tmp_path):
    refined = experiment(
        URNet(BACKBONE), phase("refine", 1, "gated", finetune=True), init_from=str(base.workdir)
    )
    with pytest.raises(UsageError, match=r"lacks .*/gate/.*phase 'refine' finetunes what was"):
        run(refined, tmp_path)


def test_what_is_added_to_a_trained_network_may_be_new(base, tmp_path):
    added = phase("added", 1, "gated", trainable="/gate/", bn="running", finetune=True)
    run(experiment(URNet(BACKBONE), added, init_from=str(base.workdir)), tmp_path)
    assert rows(tmp_path)[0]["kind"] == "start"


def test_a_directory_that_is_no_workdir_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"config.init_from: .*elsewhere is not a workdir"):
        run(urnet(tmp_path / "elsewhere"), tmp_path / "run")


def test_a_workdir_without_a_checkpoint_is_refused(tmp_path):
    workdirs.claim(tmp_path / "begun", urnet())
    with pytest.raises(UsageError, match=r"config.init_from: .*begun has no checkpoint yet"):
        run(urnet(tmp_path / "begun"), tmp_path / "run")


LEAF = np.zeros((2, 3), np.float32)


def test_leaves_go_together_by_path():
    match = match_leaves({"a": {"x": LEAF}, "b": LEAF}, {"a": {"x": LEAF, "y": LEAF}}, "base")
    assert match == (("a/x",), ("b",), ("a/y",), ())


def test_what_is_a_runs_own_is_not_taken_and_may_have_any_shape():
    own = {"a": LEAF, "b": LEAF, "c": LEAF}
    match = match_leaves(own, {"a": LEAF, "b": LEAF[:1]}, "base", ("b", "c"))
    assert match == (("a",), ("c",), (), ("b",))


@pytest.mark.parametrize(
    "found,message",
    [
        ({"b": LEAF}, r"base has no leaf in common with this network; it has b; the network a"),
        ({"a": LEAF[:1]}, r"a is float32\[1, 3\] there and float32\[2, 3\] here"),
        ({"a": LEAF.astype(np.int32)}, r"a is int32\[2, 3\] there and float32\[2, 3\] here"),
    ],
    ids=["nothing", "shape", "dtype"],
)
def test_trees_that_do_not_fit_are_refused(found, message):
    with pytest.raises(UsageError, match=message):
        match_leaves({"a": LEAF}, found, "base")
