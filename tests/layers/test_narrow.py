"""The product is the convolution."""

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from jax_elastic.layers.conv import native_conv
from jax_elastic.layers.narrow import narrow_conv


@hypothesis.given(
    sides=st.tuples(*[st.integers(1, 6)] * 2),
    size=st.integers(1, 5),
    channels=st.tuples(*[st.integers(1, 5)] * 2),
    stride=st.integers(1, 3),
)
@hypothesis.settings(max_examples=20)
def test_values_are_those_of_a_convolution(sides, size, channels, stride):
    hypothesis.assume(min(sides) + 2 * (size // 2) >= size)
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        x = jnp.asarray(rng.normal(size=(2, *sides, channels[0])))
        kernel = jnp.asarray(rng.normal(size=(size, size, *channels)))

        ours = narrow_conv(x, kernel, stride)

        np.testing.assert_allclose(ours, native_conv(x, kernel, stride), rtol=0, atol=1e-12)
