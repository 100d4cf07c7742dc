"""What branches carry, read off weights: which numbers belong to which branch."""

import jax
import numpy as np
import pytest
import warm
from families import ALL, RESNEXT, SMALL
from toy import Toy

from jax_elastic.backbones.resnext import ResNeXt
from jax_elastic.elastic.plain import Plain
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.branches import branch_norms, branch_rows

# Four branches of two channels in the first stage, of four in the second; blocks 1 | 2, 3.
WITH_BRANCHES = ("resnext", "iresnext", "isresnext")


def drop_branch(params, stage, index, branch, branches, groups):
    """The same weights, but what one branch puts into conv3 of a block is zero."""
    params = jax.tree.map(np.array, params)
    kernel = params[f"stage{stage}"]["blocks"]["conv3"]["kernel"]
    inputs, outputs = kernel.shape[-2:]
    group, place = divmod(branch, branches // groups)
    width, share = inputs * groups // branches, outputs // groups
    rows, columns = (slice(i * n, (i + 1) * n) for i, n in ((place, width), (group, share)))
    kernel[index, 0, 0, rows, columns] = 0
    return params


@pytest.mark.parametrize("name", WITH_BRANCHES)
def test_the_norms_of_all_branches_add_up_to_that_of_the_whole_kernel(name):
    variables = warm.random_weights(ALL[name])
    kernel = variables["params"]["stage2"]["blocks"]["conv3"]["kernel"][1]
    norms = branch_norms(variables, 3)
    assert norms.shape == (4,) and norms.min() > 0
    # Float64 sums of the same float32 numbers in another order.
    np.testing.assert_allclose(norms.sum(), np.abs(np.float64(kernel)).sum(), rtol=1e-12)


@pytest.mark.parametrize(("name", "groups"), [("resnext", 1), ("iresnext", 1), ("isresnext", 2)])
@pytest.mark.parametrize("branch", [0, 1, 2, 3])
def test_a_branch_without_weights_has_no_norm_and_the_others_keep_theirs(name, groups, branch):
    variables = warm.random_weights(ALL[name])
    params = drop_branch(variables["params"], 2, 0, branch, 4, groups)
    norms = branch_norms({**variables, "params": params}, 2)
    expected = branch_norms(variables, 2)
    expected[branch] = 0
    np.testing.assert_array_equal(norms, expected)


def test_one_branch_is_the_sum_over_its_input_channels():
    variables = warm.random_weights(Plain(RESNEXT))
    kernel = np.float64(variables["params"]["stage1"]["blocks"]["conv3"]["kernel"])
    assert branch_norms(variables, 1)[2] == pytest.approx(np.abs(kernel[0, 0, 0, 4:6]).sum())


BLOCKS = {
    "resnext": (RESNEXT.make_block(RESNEXT.sites()[0]), 1),
    "isresnext": (SMALL["isresnext"].backbone.block(0)(), 2),
}


@pytest.mark.parametrize(("name", "dropped"), [(n, d) for n in BLOCKS for d in (2, 3)])
def test_what_a_branch_computes_reaches_the_output_through_its_part_alone(name, dropped):
    block, groups = BLOCKS[name]
    variables = warm.random_weights(ALL[name])
    params = drop_branch(variables["params"], 1, 0, dropped, 4, groups)

    def output(offset):
        own = jax.tree.map(np.array, {"params": params, "stats": variables["stats"]})
        own = {c: jax.tree.map(lambda a: a[0], own[c]["stage1"]["blocks"]) for c in own}
        own["params"]["conv2"]["kernel"][..., 4:6] += offset  # branch 2
        x = np.random.default_rng(0).normal(size=(1, 4, 4, 8)).astype(np.float32)
        return np.asarray(block.apply(own, x, None, "running")[0])

    assert np.array_equal(output(0), output(1)) == (dropped == 2)


@pytest.mark.parametrize("block", [0, 4])
def test_a_block_that_is_not_there_is_refused(block):
    with pytest.raises(UsageError, match=f"no block {block} with branches; this network has 3"):
        branch_norms(warm.random_weights(Plain(RESNEXT)), block)


@pytest.mark.parametrize(("stages", "block"), [((1, 2), 3), ((2, 2, 2), 5)])
def test_the_fifth_block_is_reported_or_of_fewer_the_last(stages, block):
    network = Plain(ResNeXt(stages, width=8, branches=4, branch_width=2, classes=5))
    variables = warm.random_weights(network)
    rows = branch_rows(variables)
    assert [(row["block"], row["branch"]) for row in rows] == [(block, c) for c in (1, 2, 3, 4)]
    assert [row["l1"] for row in rows] == branch_norms(variables, block).tolist()


BARE = [name for name in SMALL if name not in WITH_BRANCHES]


@pytest.mark.parametrize("network", [*(ALL[name] for name in (*BARE, "shallow")), Toy()])
def test_a_network_without_stacked_blocks_of_branches_has_no_rows(network):
    assert branch_rows(warm.random_weights(network)) == []
