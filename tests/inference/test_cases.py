"""What a latency table times: each point by the engines that differ there, and the dense form."""

import dataclasses

import families
import jax
import pytest
from toy import Toy
from warm import BACKBONE, SMALL

from jax_elastic.elastic.plain import Plain
from jax_elastic.errors import UsageError
from jax_elastic.inference.cases import Case, plan
from jax_elastic.subnet import FULL, Space, Subnet

DENSE = Case(Subnet("blocks", (1,) * 5), None, "static", dense=True)
HALF = Subnet("capacity", (0.5,))
DEEP = Subnet("depth", (2,))


@dataclasses.dataclass(frozen=True)
class Deep(Toy):
    """One operating point more than are measured where none is named."""

    subnets = Space("depth", (tuple(range(1, 66)),))


def test_every_point_is_timed_at_every_budget_by_every_engine_at_every_batch_size():
    found = plan(SMALL, [1, 8], budgets=[0.2, 0.6], engines=["masked", "sequential"])

    names = [(0.2, "masked"), (0.2, "sequential"), (0.6, "masked"), (0.6, "sequential")]
    assert found == dict.fromkeys((1, 8), (DENSE, *(Case(FULL, *name) for name in names)))


def test_without_names_all_points_and_budgets_and_what_auto_chooses_from_are_timed():
    (found,) = plan(SMALL, [4, 4]).values()

    assert {case.budget for case in found[1:]} == set(SMALL.budgets)
    assert {case.engine for case in found[1:]} == {"masked", "compacted"}
    assert len(found) == 1 + 2 * len(SMALL.budgets)


@pytest.mark.parametrize(
    ("network", "only", "budgets", "engine"),
    [
        (families.SMALL["resizable"], Subnet("resolution", (0.5, 1)), [], "static"),
        (SMALL, FULL, [0.6], "masked"),
    ],
    ids=["without gates", "with gates"],
)
def test_where_one_point_alone_has_statistics_others_are_told_in_its_times(
    network, only, budgets, engine
):
    (found,) = plan(network, [4], [only], budgets, ["masked"], only).values()

    assert found == (Case(only, max(budgets, default=None), engine, dense=True),)


@pytest.mark.parametrize(("size", "has_buckets"), [(1, False), (2, True)])
def test_buckets_are_timed_off_the_cpu_where_there_is_more_than_one_image(
    size, has_buckets, monkeypatch
):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")

    (found,) = plan(SMALL, [size], budgets=[0.5]).values()

    assert ("bucketed" in {case.engine for case in found}) == has_buckets


def test_points_without_gates_run_by_static_alone_and_need_no_budget():
    fixed = Subnet("blocks", (1, 0, 1, 1, 1))

    (found,) = plan(SMALL, [4], [fixed], [0.2, 0.6]).values()

    assert found == (DENSE, Case(fixed, None, "static"))


def test_a_share_of_the_batch_is_let_pass_by_masked_and_one_other_engine():
    (found,) = plan(SMALL, [4], [HALF], [0.5], ["compacted", "masked", "bucketed"]).values()

    assert found[1:] == (Case(HALF, None, "compacted"), Case(HALF, None, "masked"))


def test_the_dense_form_is_timed_once_where_it_is_asked_for():
    (found,) = plan(SMALL, [4], [DENSE.subnet]).values()

    assert found == (DENSE,)


@pytest.mark.parametrize(
    ("network", "dense"),
    [
        (Plain(BACKBONE), Case(FULL, None, "static", dense=True)),
        (Toy(), Case(DEEP, None, "masked", dense=True)),
        (families.SMALL["adapt"], Case(Subnet("resolution", (1, 0.5)), None, "static", dense=True)),
    ],
    ids=["no gates", "no fixed sets of blocks", "the dearest candidate"],
)
def test_the_dense_form_is_the_most_an_image_gets_where_no_blocks_can_be_fixed(network, dense):
    (found,) = plan(network, [4]).values()

    assert [case for case in found if case.dense] == [dense]
    assert dataclasses.replace(dense, dense=False) not in found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_sizes": [8, 0]}, "batch sizes 8, 0; one or more"),
        ({"batch_sizes": []}, "batch sizes are missing"),
        ({"engines": ["fast"]}, "unknown engine 'fast'; one of masked, compacted"),
        ({"engines": ["auto"]}, "engine auto only chooses among others; one of masked"),
        ({"engines": ["static"]}, "engine static cannot run full"),
        ({"budgets": [0.5, 1.3]}, r"budget 1.3 is outside \[0, 1\]"),
        ({"subnets": [Subnet("width", (3,))]}, "width:3 does not fit this network"),
        (
            {"subnets": [Subnet("capacity", (i / 99,)) for i in range(1, 41)]},
            "that makes 81 pairs of operating point and engine; up to 64",
        ),
    ],
)
def test_what_cannot_be_timed_is_refused(options, message):
    with pytest.raises(UsageError, match=message):
        plan(SMALL, **{"batch_sizes": [4], **options})


def test_a_network_of_many_points_asks_for_names():
    with pytest.raises(UsageError, match=r"has 65 operating points; up to 64 .* --subnet"):
        plan(Deep(), [4])
    assert len(plan(Deep(), [4], [Subnet("depth", (1,))])[4]) == 2
