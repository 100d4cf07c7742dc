"""I-ResNeXt's baselines and ablations by name; tests/test_configs.py reads all of them."""

import pytest

from jax_elastic.elastic.anytime.variants import first_blocks, pick, variants
from jax_elastic.errors import UsageError

BACKBONE = {"stage_sizes": (1, 2), "width": 8, "branches": 4}


def test_the_first_variant_is_i_resnext_and_without_exits_none_is_shallow():
    found = variants(BACKBONE, 2)

    assert tuple(found) == ("own_bn", "shared_bn", "thin1", "thin2")
    assert found["own_bn"] == {"family": "iresnext", "backbone": BACKBONE, "subnetworks": 2}


@pytest.mark.parametrize("k,branches", [(1, 2), (2, 4)])
def test_a_thin_network_has_the_branches_of_its_sub_network_and_all_else_of_the_whole(k, branches):
    backbone = variants(BACKBONE, 2)[f"thin{k}"]["backbone"]

    assert backbone == {**BACKBONE, "kind": "resnext", "branches": branches}


def test_a_shallow_network_has_the_blocks_up_to_its_exit():
    found = variants(BACKBONE, 2, after=(2, 3))

    assert found["shallow_joint"]["backbone"]["after"] == (2, 3)
    assert found["shallow_separate2"]["backbone"]["stage_sizes"] == (1, 1)


@pytest.mark.parametrize(
    "blocks,sizes", [(1, (1,)), (3, (3,)), (4, (3, 1)), (6, (3, 3)), (9, (3, 3, 3))]
)
def test_the_first_blocks_fill_the_stages_in_order(blocks, sizes):
    assert first_blocks((3, 3, 3), blocks) == sizes


def test_a_variant_that_a_network_lacks_is_refused_with_those_it_has():
    with pytest.raises(UsageError, match="no variant 'shallow_joint'; one of own_bn, shared_bn"):
        pick(variants(BACKBONE, 2), "shallow_joint")
