"""The trained networks that come with the package are what their cards say."""

import jax
import pytest
from thorough import thorough

from jax_elastic.data.datasets import load
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.evaluate import Evaluator
from jax_elastic.inference.pretrained import (
    WEIGHTS,
    pretrained,
    pretrained_names,
    read_card,
    write_pretrained,
)
from jax_elastic.training.checkpoint import tree_hash

LARGEST = 600_000  # bytes


@pytest.mark.parametrize("name", pretrained_names())
def test_the_file_is_small_and_holds_the_arrays_of_its_card(name):
    card = read_card(name)

    _, variables, _ = pretrained(name)

    assert (WEIGHTS / f"{name}.npz").stat().st_size < LARGEST
    assert tree_hash(variables) == card["hash"]


@pytest.mark.parametrize(
    "name", thorough(pretrained_names(), lambda name: name in ("plain_digits", "urnet_digits"))
)
def test_accuracy_and_usage_are_those_of_its_card(name, tfds_dir):
    network, variables, experiment = pretrained(name)
    budgets = (0.4, 0.8) if network.budgets else ()
    expected = {(row["subnet"], row["asked"]): row for row in read_card(name)["test"]}
    # Of many points the ends and the one between, because each takes time to compile.
    points = network.shown[:: max(1, (len(network.shown) - 1) // 2)]

    rows = Evaluator(
        network, load(experiment.data, "test"), experiment.data, points, budgets=budgets
    )(variables).rows

    for row in rows:
        told = expected[row["subnet"], row["asked"]]
        # Another machine may round a logit the other way: two of the 359 images.
        assert row["top1"] == pytest.approx(told["top1"], abs=2.5 / row["n"])
        assert row["macs_mean"] == pytest.approx(told["macs_mean"], rel=0.01)


def test_the_networks_of_the_digits_are_there():
    names = ("plain", "urnet", "iresnext", "isresnext", "msdnet", "resizable", "sgad")
    assert {f"{name}_digits" for name in names} <= set(pretrained_names())


def test_what_is_written_is_read_back_and_the_same_arrays_give_the_same_bytes(tmp_path):
    name = "urnet_digits"
    _, variables, experiment = pretrained(name)
    facts = {"command": "a command", "step": 1}

    paths = [
        write_pretrained(name, experiment, variables, [], facts, tmp_path / place)
        for place in ("a", "b")
    ]
    network, again, _ = pretrained(name, tmp_path / "a")

    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert network == experiment.network
    assert tree_hash(again) == tree_hash(variables)
    assert jax.tree.structure(again) == jax.tree.structure(variables)


def test_a_changed_file_is_refused_with_the_command_that_makes_it_again(tmp_path):
    name = "urnet_digits"
    _, variables, experiment = pretrained(name)
    path = write_pretrained(name, experiment, variables, [], {"command": "make it"}, tmp_path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)

    with pytest.raises(UsageError, match="make it again: make it"):
        pretrained(name, tmp_path)


def test_an_unknown_name_is_refused_with_those_there_are():
    with pytest.raises(UsageError, match="urnet_digits"):
        pretrained("nothing")
