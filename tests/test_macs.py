"""The MAC counter against counts made by hand, and what it refuses to count."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import Primitive
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from jax_elastic.macs import Cost, UncountableError, count_jaxpr, count_macs


def array(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def conv(x, kernel, stride=1, padding="SAME", **options):
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"), **options
    )


X, SQUARE = array(4, 4), array(4, 4)
MATMUL = 4 * 4 * 4


@pytest.mark.parametrize(
    "x,kernel,options,expected",
    [
        # outputs x window x input channels per group
        ((2, 8, 8, 3), (3, 3, 3, 16), {}, (2 * 8 * 8 * 16) * 9 * 3),
        ((1, 6, 5, 2), (1, 1, 2, 7), {}, (6 * 5 * 7) * 2),
        ((1, 9, 9, 4), (3, 3, 4, 8), {"stride": 2}, (5 * 5 * 8) * 9 * 4),
        ((1, 9, 9, 4), (3, 3, 4, 8), {"padding": "VALID"}, (7 * 7 * 8) * 9 * 4),
        ((1, 8, 8, 8), (3, 3, 2, 16), {"feature_group_count": 4}, (8 * 8 * 16) * 9 * 2),
        ((1, 8, 8, 8), (3, 3, 1, 8), {"feature_group_count": 8}, (8 * 8 * 8) * 9),
        ((1, 8, 8, 4), (3, 3, 4, 4), {"rhs_dilation": (2, 2)}, (8 * 8 * 4) * 9 * 4),
        ((6, 8, 8, 2), (3, 3, 2, 9), {"batch_group_count": 3}, (2 * 8 * 8 * 9) * 9 * 2),
        ((1, 8, 8, 4), (3, 3, 4, 0), {}, 0),
    ],
    ids=[
        "plain",
        "pointwise",
        "strided",
        "valid",
        "grouped",
        "depthwise",
        "dilated",
        "batch_grouped",
        "empty",
    ],
)
def test_a_convolution_costs_outputs_times_taps(x, kernel, options, expected):
    assert count_macs(functools.partial(conv, **options), array(*x), array(*kernel)) == expected


@pytest.mark.parametrize(
    "dimension_numbers,x,kernel",
    [
        (("NCHW", "OIHW", "NCHW"), (2, 3, 8, 6), (5, 3, 3, 1)),
        (("HWNC", "OHWI", "CHWN"), (8, 6, 2, 3), (5, 3, 1, 3)),
    ],
    ids=["NCHW", "mixed"],
)
def test_a_convolution_costs_the_same_in_any_layout(dimension_numbers, x, kernel):
    def laid_out(x, kernel):
        return lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=dimension_numbers
        )

    assert count_macs(laid_out, array(*x), array(*kernel)) == (2 * 8 * 6 * 5) * 3 * 3


def test_the_count_does_not_depend_on_how_much_of_the_window_is_padding():
    inside = count_macs(
        functools.partial(conv, padding="VALID"), array(1, 6, 6, 2), array(3, 3, 2, 2)
    )
    padded = count_macs(conv, array(1, 4, 4, 2), array(3, 3, 2, 2))
    assert inside == padded == (4 * 4 * 2) * 9 * 2


def test_a_vmapped_convolution_costs_its_batch_times_one():
    one = count_macs(conv, array(2, 8, 8, 3), array(3, 3, 3, 4))
    images = count_macs(jax.vmap(conv, (0, None)), array(5, 2, 8, 8, 3), array(3, 3, 3, 4))
    kernels = count_macs(jax.vmap(conv), array(5, 2, 8, 8, 3), array(5, 3, 3, 3, 4))
    assert images == kernels == 5 * one


@pytest.mark.parametrize(
    "equation,shapes,expected",
    [
        ("ij,jk->ik", [(3, 5), (5, 7)], 3 * 5 * 7),
        ("bij,bjk->bik", [(2, 3, 5), (2, 5, 7)], 2 * 3 * 5 * 7),
        ("abij,abij->ab", [(2, 3, 4, 5), (2, 3, 4, 5)], 2 * 3 * 4 * 5),
        ("i,j->ij", [(3,), (4,)], 3 * 4),
        ("i,i->", [(6,), (6,)], 6),
    ],
)
def test_a_dot_costs_batch_times_rows_times_columns_times_contracted(equation, shapes, expected):
    def einsum(a, b):
        return jnp.einsum(equation, a, b)

    assert count_macs(einsum, *(array(*shape) for shape in shapes)) == expected


def test_a_scan_costs_its_length_times_its_body():
    def chain(x, kernels):
        return lax.scan(lambda c, w: (c @ w, None), x, kernels)[0]

    assert count_macs(chain, X, array(6, 4, 4)) == 6 * MATMUL


def test_nested_scans_and_a_static_fori_loop_multiply():
    def nested(x, kernels):
        def outer(_, x):
            return lax.scan(lambda c, w: (c @ w, None), x, kernels)[0]

        return lax.fori_loop(0, 3, outer, x)

    assert count_macs(nested, X, array(6, 4, 4)) == 18 * MATMUL


@jax.custom_vjp
def reverse_rule(x, w):
    return x @ w


reverse_rule.defvjp(lambda x, w: (x @ w, (x, w)), lambda r, ct: (ct @ r[1].T, r[0].T @ ct))


@jax.custom_jvp
def forward_rule(x, w):
    return x @ w


forward_rule.defjvp(lambda primals, tangents: (forward_rule(*primals), tangents[0] @ primals[1]))


@jax.custom_batching.custom_vmap
def batching_rule(x, w):
    return x @ w


batching_rule.def_vmap(lambda size, batched, x, w: (x @ w, True))


@pytest.mark.parametrize(
    "wrapped",
    [jax.jit(jnp.matmul), jax.checkpoint(jnp.matmul), reverse_rule, forward_rule, batching_rule],
    ids=["jit", "checkpoint", "custom_vjp", "custom_jvp", "custom_vmap"],
)
def test_a_wrapped_function_costs_what_it_wraps(wrapped):
    assert count_macs(wrapped, X, SQUARE) == MATMUL


def test_a_gradient_through_a_custom_rule_is_counted_as_the_rule_computes_it():
    def loss(x, w):
        return reverse_rule(x, w).sum()

    assert count_macs(jax.grad(loss, (0, 1)), X, SQUARE) == 3 * MATMUL


@pytest.mark.parametrize("devices", [1, 2])
def test_shards_on_several_devices_add_up_to_the_whole(devices):
    mesh = jax.make_mesh((devices,), ("batch",), axis_types=(AxisType.Auto,))
    sharded = jax.shard_map(jnp.matmul, mesh=mesh, in_specs=(P("batch"), P()), out_specs=P("batch"))
    assert count_macs(sharded, X, SQUARE) == MATMUL


def elementwise(x):
    y = jax.nn.relu(x) * 2 + jnp.sort(x, axis=0)
    y = lax.reduce_window(y, 0.0, lambda a, b: a + b * 1, (2, 2), (1, 1), "SAME")
    y = y + lax.reduce_window(y, -jnp.inf, lax.max, (2, 2), (1, 1), "SAME")
    y = y.at[0].add(1.0).at[1].set(2.0).at[2].max(3.0).at[3].multiply(2.0)[jnp.array([2, 0, 1])]
    return lax.reduce(y, 1.0, lambda a, b: a * b + 1, (0,)) + jnp.cumsum(y, axis=0).mean()


def test_pooling_sorting_gathering_scattering_and_reducing_cost_nothing():
    assert count_macs(elementwise, X) == 0


def test_gradients_of_pooling_cost_nothing():
    def pooled(x):
        return lax.reduce_window(x, -jnp.inf, lax.max, (2, 2), (2, 2), "VALID").sum()

    assert count_macs(jax.grad(pooled), X) == 0


def test_a_cond_with_equal_branches_is_counted_once():
    def either(flag, x, w):
        return lax.cond(flag, lambda x, w: x @ w, lambda x, w: w @ x, x, w)

    assert count_macs(either, jax.ShapeDtypeStruct((), jnp.bool_), X, SQUARE) == MATMUL


# The platform that programs here are lowered for, as JAX names it, and one that is not here.
HERE = {"gpu": "cuda"}.get(jax.default_backend(), jax.default_backend())
THERE = "cpu" if HERE == "tpu" else "tpu"


@pytest.mark.parametrize(
    "platforms,products", [([HERE], 1), ([THERE, HERE], 1), ([THERE], 2)], ids=str
)
def test_of_branches_by_platform_the_one_that_runs_here_is_counted(platforms, products):
    branches = dict.fromkeys(platforms, lambda x, w: x @ w)

    def by_platform(x, w):
        return lax.platform_dependent(x, w, **branches, default=lambda x, w: x @ w @ w)

    assert count_macs(by_platform, X, SQUARE) == products * MATMUL


def test_branches_for_other_platforms_alone_cannot_be_counted():
    def elsewhere(x, w):
        return lax.platform_dependent(x, w, **{THERE: lambda x, w: x @ w})

    with pytest.raises(UncountableError, match="none of its branches is for"):
        count_macs(elsewhere, X, SQUARE)


def uneven_cond(x, w):
    return lax.cond(x.sum() > 0, lambda x, w: x @ w, lambda x, w: x, x, w)


def uneven_switch(x, w):
    one, two = (lambda x, w: x @ w), (lambda x, w: x @ w @ w)
    return lax.switch(x.sum().astype(jnp.int32), [one, two, one], x, w)


def unbounded(x, w):
    return lax.while_loop(lambda c: c.sum() > 0, lambda c: c @ w, x)


def combining_dots(x, w):
    def dot(a, b):
        return a + jnp.dot(b[None], b[None])

    return lax.reduce(x, 0.0, dot, (0,)) + w[0]


def linear_solve(x, w):
    return lax.custom_linear_solve(lambda v: w @ v, x, lambda mv, b: mv(b), lambda mv, b: mv(b))


def callback(x, w):
    return jax.pure_callback(lambda x, w: x @ w, X, x, w)


@pytest.mark.parametrize(
    "function,primitive,why",
    [
        (uneven_cond, "cond", r"\[0, 64\]"),
        (uneven_switch, "cond", r"\[64, 128, 64\]"),
        (unbounded, "while", "length"),
        (combining_dots, "reduce", "combines"),
        (linear_solve, "custom_linear_solve", "does not know"),
        (callback, "pure_callback", "not visible"),
    ],
)
@pytest.mark.parametrize("depth", ["top", "inside a scan"])
def test_what_cannot_be_counted_is_an_error_that_names_the_primitive(
    function, primitive, why, depth
):
    def repeated(x, w):
        return lax.scan(lambda c, _: (function(c, w), None), x, None, length=2)[0]

    target = function if depth == "top" or primitive == "reduce" else repeated
    with pytest.raises(UncountableError, match=f"'{primitive}'.*{why}") as caught:
        count_macs(target, X, SQUARE)
    assert caught.value.primitive == primitive
    assert isinstance(caught.value, ValueError)


def test_an_unknown_primitive_that_holds_a_jaxpr_is_an_error():
    primitive = Primitive("newcomer")
    primitive.def_abstract_eval(lambda x, **_: x)
    body = jax.make_jaxpr(jnp.matmul)(X, SQUARE)

    with pytest.raises(UncountableError, match="'newcomer'"):
        count_macs(lambda x: primitive.bind(x, nested=({"body": body},)), X)
    assert count_macs(lambda x: primitive.bind(x, scale=2), X) == 0


def test_a_jaxpr_counts_the_same_open_and_closed():
    closed = jax.make_jaxpr(jnp.matmul)(X, SQUARE)
    assert count_jaxpr(closed) == count_jaxpr(closed.jaxpr) == MATMUL


def test_counts_larger_than_32_bits_are_exact():
    size = 100_003
    assert count_macs(jnp.matmul, array(size, size), array(size, size)) == size**3


def test_a_cost_adds_fixed_gates_and_the_open_blocks():
    cost = Cost(fixed=100, blocks=(10, 20, 40), gates=3)
    opened = np.array([[0, 0, 0], [1, 0, 1], [1, 1, 1]])
    np.testing.assert_array_equal(cost.of(opened), [103, 153, 173])
    np.testing.assert_array_equal(cost.of(opened.astype(bool)), cost.of(opened))
    assert cost.of(opened).dtype == np.float64
    assert cost.of(np.ones((2, 5, 3))).shape == (2, 5)
    assert cost.full == 173


def test_a_cost_without_gated_blocks_is_fixed():
    cost = Cost(fixed=7, blocks=(), gates=0)
    np.testing.assert_array_equal(cost.of(np.zeros((4, 0))), [7, 7, 7, 7])
    assert cost.full == 7


@pytest.mark.parametrize("shape", [(), (2,), (3, 4), (0,)], ids=str)
def test_a_cost_refuses_another_number_of_blocks(shape):
    with pytest.raises(ValueError, match="3 blocks"):
        Cost(fixed=1, blocks=(1, 1, 1), gates=0).of(np.ones(shape))
