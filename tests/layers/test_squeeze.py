"""Squeeze and excitation: the weight of a channel, by hand."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_elastic.layers.norm import EPSILON
from jax_elastic.layers.squeeze import SqueezeExcite


def layer_and_variables(x, reduction=4):
    """A layer whose variables are all random, of weights between 0 and 1 and at both ends."""
    layer = SqueezeExcite(reduction)
    shapes = jax.eval_shape(lambda x: layer.init(jax.random.key(0), x, "running"), jnp.asarray(x))
    rng = np.random.default_rng(1)
    variables = jax.tree.map(lambda a: jnp.asarray(rng.uniform(0.1, 1, a.shape)), shapes)
    expand = variables["params"]["expand"]["kernel"]
    variables["params"]["expand"]["kernel"] = jnp.asarray(rng.normal(scale=6, size=expand.shape))
    return layer, variables


def test_the_weight_is_the_hard_sigmoid_of_two_layers_on_the_pooled_map():
    x = np.random.default_rng(0).normal(size=(6, 3, 5, 8))
    layer, variables = layer_and_variables(x)
    params = jax.tree.map(np.asarray, variables["params"])
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda a: jnp.asarray(a, "float64"), variables)
        out, _ = layer.apply(wide, jnp.asarray(x), "batch", mutable=["moments"])
    squeezed = x.mean((1, 2)) @ params["reduce"]["kernel"][0, 0]
    centred = (squeezed - squeezed.mean(0)) / np.sqrt(squeezed.var(0) + EPSILON)
    hidden = np.maximum(centred * params["bn"]["scale"] + params["bn"]["bias"], 0)
    logits = hidden @ params["expand"]["kernel"][0, 0]
    weight = np.clip(logits / 6 + 0.5, 0, 1)[:, None, None]
    assert weight.min() == 0 and weight.max() == 1 and np.any((weight > 0) & (weight < 1))
    np.testing.assert_allclose(out, x * weight, rtol=0, atol=1e-10)


def test_features_that_are_pooled_already_are_a_map_of_one_pixel():
    x = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    layer, variables = layer_and_variables(x)
    as_map = layer.apply(variables, x[:, None, None], "running")
    np.testing.assert_array_equal(layer.apply(variables, x, "running"), as_map[:, 0, 0])


@pytest.mark.parametrize("channels,reduction,hidden", [(8, 4, 2), (6, 4, 2), (3, 4, 1), (6, 2, 3)])
def test_reduced_channels_are_rounded_up(channels, reduction, hidden):
    x = jax.ShapeDtypeStruct((1, 2, 2, channels), jnp.float32)
    layer = SqueezeExcite(reduction)
    shapes = jax.eval_shape(lambda x: layer.init(jax.random.key(0), x, "running"), x)
    assert shapes["params"]["reduce"]["kernel"].shape == (1, 1, channels, hidden)


def test_the_result_has_the_inputs_dtype():
    x = jnp.ones((2, 3, 3, 4), jnp.bfloat16)
    out, _ = SqueezeExcite().init_with_output(jax.random.key(0), x, "running")
    chex.assert_type(out, jnp.bfloat16)
