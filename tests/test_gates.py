"""Gates: exact forward values, exact gradients, draws that do not depend on the precision."""

import chex
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from jax import lax

from jax_elastic import gates

# XLA:CPU flushes subnormals to zero, so the sign of one is not a fact about the gate.
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False)
# One shape, so that hypothesis does not spend its time compiling.
LOGITS = hnp.arrays(np.float32, (6,), elements=FINITE)
# Products of two of these neither overflow nor underflow, so NumPy's are the expected bits.
SIZES = st.floats(2.0**-40, 2.0**40, width=32)
MODERATE = st.one_of(st.just(0.0), SIZES, SIZES.map(lambda size: -size))
VALUES = hnp.arrays(np.float32, (4, 2, 3), elements=MODERATE)
GATES = hnp.arrays(np.float32, (4,), elements=st.sampled_from([0.0, 0.25, 0.7, 1.0]))


@hypothesis.given(LOGITS)
def test_hard_step_is_one_exactly_where_the_logit_is_not_negative(logits):
    np.testing.assert_array_equal(gates.hard_step(logits), (logits >= 0).astype(np.float32))


def test_hard_step_opens_at_zero_and_closes_where_the_sigmoid_rounds_to_one_half():
    logits = jnp.array([0.0, -0.0, -1e-9], jnp.float32)
    assert jax.nn.sigmoid(logits)[2] == 0.5
    np.testing.assert_array_equal(gates.hard_step(logits), [1, 1, 0])


@hypothesis.given(LOGITS)
def test_hard_step_has_no_gradient_even_under_an_infinite_cotangent(logits):
    _, vjp = jax.vjp(gates.hard_step, jnp.asarray(logits))
    (gradient,) = vjp(jnp.full(logits.shape, jnp.inf))
    np.testing.assert_array_equal(gradient, np.zeros_like(logits))


@hypothesis.given(LOGITS)
def test_straight_through_is_bit_for_bit_the_step(logits):
    # Exact: h + (step - h) would be 0.99999994 for some logits.
    np.testing.assert_array_equal(gates.straight_through(logits), gates.hard_step(logits))


@hypothesis.given(LOGITS)
def test_straight_through_has_the_gradient_of_the_sigmoid(logits):
    ours = jax.grad(lambda z: gates.straight_through(z).sum())(logits)
    sigmoid = jax.grad(lambda z: jax.nn.sigmoid(z).sum())(logits)
    np.testing.assert_array_equal(ours, sigmoid)


def test_straight_through_gradient_is_one_with_respect_to_the_probability():
    logits = jnp.array([-2.0, -0.1, 0.0, 0.3, 4.0], jnp.float32)
    h = jax.nn.sigmoid(logits)
    gradient = jax.grad(lambda z: gates.straight_through(z).sum())(logits)
    # Two roundings of h (1 - h) in float32.
    np.testing.assert_allclose(gradient / (h * (1 - h)), np.ones(5), rtol=1e-5)


@hypothesis.given(LOGITS, hnp.arrays(np.bool_, (6,)))
def test_sigmoid_or_step_takes_value_and_gradient_from_the_chosen_form(logits, soft):
    values, vjp = jax.vjp(lambda z: gates.sigmoid_or_step(z, soft), jnp.asarray(logits))
    (gradient,) = vjp(jnp.ones(6))
    sigmoid, sigmoid_vjp = jax.vjp(jax.nn.sigmoid, jnp.asarray(logits))
    np.testing.assert_array_equal(values, np.where(soft, sigmoid, gates.hard_step(logits)))
    np.testing.assert_array_equal(gradient, np.where(soft, sigmoid_vjp(jnp.ones(6))[0], 0))


def test_sigmoid_or_step_broadcasts_one_choice_per_gate_over_a_batch():
    logits = jnp.array([[-1.0, -1.0], [2.0, 2.0]])
    out = gates.sigmoid_or_step(logits, jnp.array([True, False]))
    np.testing.assert_array_equal(out[:, 0], jax.nn.sigmoid(logits[:, 0]))
    np.testing.assert_array_equal(out[:, 1], [0, 1])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize(
    "gate",
    [
        gates.hard_step,
        gates.straight_through,
        lambda z: gates.sigmoid_or_step(z, True),
        lambda z: gates.saturating_noise(jax.random.key(0), z, 1.0),
    ],
    ids=["hard_step", "straight_through", "sigmoid_or_step", "saturating_noise"],
)
def test_a_gate_keeps_shape_and_dtype(gate, dtype):
    chex.assert_tree_all_finite(gate(jnp.zeros((2, 3), dtype)))
    assert jax.eval_shape(gate, jnp.zeros((2, 3), dtype)) == jax.ShapeDtypeStruct((2, 3), dtype)


@pytest.mark.parametrize("p,expected", [(0.0, False), (1.0, True)])
@hypothesis.given(seed=st.integers(0, 2**31 - 1))
def test_draws_at_the_ends_of_p_are_certain(p, expected, seed):
    assert (gates.draw_soft(jax.random.key(seed), p, (64,)) == expected).all()


def test_p_zero_draws_no_soft_gate_even_where_the_uniform_is_exactly_zero():
    # One float32 uniform in 2^23 is exactly zero; this key draws such a one.
    key, shape = jax.random.key(4), (1 << 20,)
    assert (jax.random.uniform(key, shape, dtype=jnp.float32) == 0).any()
    assert not gates.draw_soft(key, 0.0, shape).any()


def test_draws_are_soft_in_a_share_p():
    share = gates.draw_soft(jax.random.key(3), 0.1, (40_000,)).mean()
    # The standard deviation of the share is 0.0015; four of them.
    assert abs(share - 0.1) < 0.006


def test_p_may_be_traced():
    draw = jax.jit(lambda p: gates.draw_soft(jax.random.key(3), p, (100,)))
    np.testing.assert_array_equal(draw(0.3), gates.draw_soft(jax.random.key(3), 0.3, (100,)))


def test_draws_and_noise_are_the_same_numbers_under_x64():
    def draw():
        key, logits = jax.random.key(7), jnp.ones((512,), jnp.float32)
        return gates.draw_soft(key, 0.1, (512,)), gates.saturating_noise(key, logits, 0.3)

    narrow = draw()
    with jax.enable_x64(True):
        wide = draw()
    chex.assert_trees_all_equal(narrow, wide)
    assert wide[1].dtype == jnp.float32


def test_noise_on_float64_logits_is_the_float32_noise():
    key = jax.random.key(7)
    narrow = gates.saturating_noise(key, jnp.zeros((512,), jnp.float32), 0.3)
    with jax.enable_x64(True):
        wide = gates.saturating_noise(key, jnp.zeros((512,), jnp.float64), 0.3)
    assert wide.dtype == jnp.float64
    np.testing.assert_array_equal(wide, narrow)


def test_rows_of_a_batch_draw_different_gates_when_their_keys_are_split():
    keys = jax.random.split(jax.random.key(0), 8)
    soft = jax.vmap(lambda key: gates.draw_soft(key, 0.5, (64,)))(keys)
    noise = jax.vmap(lambda key: gates.saturating_noise(key, jnp.zeros(64), 1.0))(keys)
    assert len(np.unique(soft, axis=0)) == len(np.unique(noise, axis=0)) == 8


def test_noise_has_the_asked_deviation_and_a_traced_sigma():
    noisy = jax.jit(gates.saturating_noise)(jax.random.key(1), jnp.full((40_000,), 5.0), 2.0)
    # Standard errors: 0.01 for the mean, 0.007 for the deviation; four of them.
    assert abs(noisy.mean() - 5) < 0.04
    assert abs(noisy.std() - 2) < 0.03


def test_no_noise_leaves_the_logits_alone():
    logits = jnp.linspace(-3, 3, 13)
    noisy = gates.saturating_noise(jax.random.key(1), logits, 0.0)
    np.testing.assert_array_equal(noisy, logits)


@hypothesis.given(GATES, VALUES, VALUES)
def test_gate_mul_and_both_gradients_are_the_written_formulas(g, values, ct):
    out, vjp = jax.vjp(gates.gate_mul, jnp.asarray(g), jnp.asarray(values))
    d_gates, d_values = vjp(jnp.asarray(ct))
    wide = g[:, None, None]
    np.testing.assert_array_equal(out, wide * values)
    np.testing.assert_array_equal(d_values, wide * ct)
    # Six float32 products: each rounds, and they may cancel, so relative to their sizes.
    products = ct.astype(np.float64) * values
    scale = np.abs(products).sum((1, 2)) + np.finfo(np.float32).tiny
    error = np.abs(d_gates - products.sum((1, 2))) / scale
    assert (error < 1e-6).all()


@pytest.mark.parametrize("bad", [jnp.inf, -jnp.inf, jnp.nan])
def test_closed_block_never_passes_its_output_even_if_it_overflowed(bad):
    values = jnp.array([[1.0, bad], [3.0, 4.0]])
    out = gates.gate_mul(jnp.array([0.0, 1.0]), values)
    np.testing.assert_array_equal(out, [[0, 0], [3, 4]])


@pytest.mark.parametrize("bad", [jnp.inf, -jnp.inf, jnp.nan])
def test_closed_block_receives_no_gradient_even_if_the_cotangent_overflowed(bad):
    _, vjp = jax.vjp(lambda f: gates.gate_mul(jnp.array([0.0, 1.0]), f), jnp.ones((2, 2)))
    (d_values,) = vjp(jnp.array([[bad, 1.0], [3.0, 4.0]]))
    np.testing.assert_array_equal(d_values, [[0, 0], [3, 4]])


def test_closed_straight_through_gate_still_receives_its_gradient():
    logits = jnp.array([-1.0, 2.0], jnp.float32)
    values = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    ct = jnp.array([[10.0, 100.0], [10.0, 100.0]])
    _, vjp = jax.vjp(lambda z: gates.gate_mul(gates.straight_through(z), values), logits)
    h = jax.nn.sigmoid(logits)
    # <ct, F> = 210 and 430; float32 roundings of h (1 - h).
    np.testing.assert_allclose(vjp(ct)[0], h * (1 - h) * jnp.array([210.0, 430.0]), rtol=1e-5)


def test_bfloat16_values_keep_their_dtype_and_float32_gates_theirs():
    g, values = jnp.array([0.0, 0.7], jnp.float32), jnp.ones((2, 3), jnp.bfloat16)
    out, vjp = jax.vjp(gates.gate_mul, g, values)
    d_gates, d_values = vjp(out)
    assert (out.dtype, d_values.dtype, d_gates.dtype) == (jnp.bfloat16, jnp.bfloat16, jnp.float32)
    # The product is rounded to bfloat16 once, after a float32 multiplication.
    np.testing.assert_array_equal(out[1], jnp.full((3,), 0.7, jnp.bfloat16))


def test_gradient_of_a_gate_over_a_bfloat16_map_is_summed_in_float32():
    values = jnp.ones((1, 32, 32), jnp.bfloat16)
    _, vjp = jax.vjp(lambda g: gates.gate_mul(g, values), jnp.zeros(1, jnp.float32))
    # 1023 needs ten bits; bfloat16 has eight and would say 1024.
    (d_gates,) = vjp(values.at[0, 0, 0].set(0))
    assert d_gates[0] == 1023


def test_float64_gates_and_values_stay_float64():
    with jax.enable_x64(True):
        g, values = jnp.array([0.1], jnp.float64), jnp.array([[1 / 3]], jnp.float64)
        out, vjp = jax.vjp(gates.gate_mul, g, values)
        d_gates, d_values = vjp(jnp.ones_like(out))
        assert out.dtype == d_gates.dtype == d_values.dtype == jnp.float64
        assert (out[0, 0], d_gates[0], d_values[0, 0]) == (0.1 * (1 / 3), 1 / 3, 0.1)


def test_gate_mul_under_vmap_is_gate_mul_row_by_row():
    key = jax.random.key(0)
    g = (jax.random.uniform(key, (3, 4)) > 0.5).astype(jnp.float32)
    values = jax.random.normal(key, (3, 4, 5))

    def gradients(g, values):
        return jax.grad(lambda g, f: (gates.gate_mul(g, f) * f**2).sum(), (0, 1))(g, values)

    batched = jax.vmap(gradients)(g, values)
    rows = [gradients(g[i], values[i]) for i in range(3)]
    # The same sums, perhaps in another order.
    chex.assert_trees_all_close(
        batched, jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows), rtol=1e-5
    )


def test_gate_mul_inside_a_scan_matches_the_unrolled_chain():
    g = jnp.array([[0.0, 1.0], [1.0, 0.5]])
    x = jnp.array([[1.0, 2.0], [3.0, 4.0]])

    def block(x, g):
        return x + gates.gate_mul(g, jnp.sin(x)), None

    scanned = jax.grad(lambda g: lax.scan(block, x, g)[0].sum())(g)
    unrolled = jax.grad(lambda g: block(block(x, g[0])[0], g[1])[0].sum())(g)
    # The same operations; fusion may round differently.
    np.testing.assert_allclose(scanned, unrolled, rtol=1e-6)


@pytest.mark.parametrize("shape", [(2, 3), (3,), (4, 1)], ids=str)
def test_a_gate_per_anything_but_a_sample_is_refused_with_the_right_shapes(shape):
    with pytest.raises(AssertionError, match=r"gates \(B,\), values \(B, \.\.\.\)"):
        gates.gate_mul(jnp.ones(shape), jnp.ones((2, 3)))


def test_boolean_gates_are_refused():
    with pytest.raises(AssertionError, match="floating gates"):
        gates.gate_mul(jnp.array([True]), jnp.ones((1, 2)))


class GateMulVariantsTest(chex.TestCase):
    """chex's variants run one test with and without jit."""

    @chex.variants(with_jit=True, without_jit=True)
    def test_closed_gates_give_zeros_and_a_gradient_with_and_without_jit(self):
        @self.variant
        def value_and_gradient(logits, values):
            def loss(logits):
                return gates.gate_mul(gates.straight_through(logits), values).sum()

            return jax.value_and_grad(loss)(logits)

        value, gradient = value_and_gradient(jnp.array([-1.0, 1.0]), jnp.array([[8.0], [4.0]]))
        assert value == 4
        h = jax.nn.sigmoid(1.0)
        # Float32 roundings of h (1 - h).
        np.testing.assert_allclose(gradient, h * (1 - h) * np.array([8.0, 4.0]), rtol=1e-5)
