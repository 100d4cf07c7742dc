"""ResizableNet: its kinds of units, dropout, and what is refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chained import random_variables, shapes_of

from jax_elastic.backbones.resizablenet import ResizableHead, ResizableNet
from jax_elastic.errors import UsageError

TINY = ResizableNet(("33", "5", "7X"), (4, 6, 8), 2, 5, classes=3, stem="cifar")


@pytest.mark.parametrize(
    "stage,unit,size,squeezed",
    [(1, 1, 3, False), (1, 4, 5, False), (2, 2, 5, False), (3, 1, 7, True), (4, 2, 5, True)],
)
def test_a_unit_has_the_kernel_and_the_squeeze_of_its_place(stage, unit, size, squeezed):
    found = shapes_of(ResizableNet())["params"][f"stage{stage}"][f"unit{unit}"]
    assert found["right"]["separable"]["depthwise"]["kernel"].shape[:2] == (size, size)
    assert ("squeeze" in found) == squeezed
    assert ("left" in found) == (unit == 1)


@pytest.mark.parametrize("stage,unit", [(1, 3), (4, 3)])
def test_a_unit_of_kind_x_is_three_separable_convolutions(stage, unit):
    right = shapes_of(ResizableNet())["params"][f"stage{stage}"][f"unit{unit}"]["right"]
    assert set(right) == {"separable1", "separable2", "separable3"}
    kernels = [separable["depthwise"]["kernel"].shape[:2] for separable in right.values()]
    assert kernels == [(3, 3)] * 3


def head_that_shows_its_hidden_features(dropout, dtype="float32"):
    """A head and variables whose logits are the hidden features."""
    head = ResizableHead(features=64, dropout=dropout, classes=64)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 2, 2, 3)), dtype)
    shapes = jax.eval_shape(functools.partial(head.init, bn="running"), jax.random.key(0), x)
    rng = np.random.default_rng(1)
    variables = jax.tree.map(lambda s: jnp.asarray(rng.uniform(0.5, 1, s.shape), dtype), shapes)
    variables["params"]["classifier"] = {"kernel": jnp.eye(64, dtype=dtype), "bias": jnp.zeros(64)}
    return head, variables, x


def dropped(head, variables, x, seed):
    """Its logits where it drops."""
    return logits_of(head, variables, x, {"dropout": jax.random.key(seed)})


@functools.partial(jax.jit, static_argnums=0)
def logits_of(head, variables, x, rngs=None):
    return head.apply(variables, x, "running", rngs=rngs)[0]


@pytest.mark.parametrize("dropout,scale", [(0.5, 2.0), (0.25, 4 / 3)])
def test_dropout_leaves_out_a_share_and_makes_up_for_it(dropout, scale):
    head, variables, x = head_that_shows_its_hidden_features(dropout)
    hidden = logits_of(head, variables, x)
    out = dropped(head, variables, x, seed=0)
    assert np.all(np.asarray(hidden) != 0)
    is_out = np.asarray(out) == 0
    np.testing.assert_allclose(out[~is_out], scale * hidden[~is_out], rtol=1e-6)
    # 256 draws: five standard deviations are 0.16.
    assert abs(is_out.mean() - dropout) < 0.16


def test_dropout_draws_for_each_image_and_key_and_the_same_in_float64():
    head, variables, x = head_that_shows_its_hidden_features(0.5)
    first = np.asarray(dropped(head, variables, x, seed=0)) == 0
    other = np.asarray(dropped(head, variables, x, seed=1)) == 0
    with jax.enable_x64(True):
        wide = np.asarray(dropped(*head_that_shows_its_hidden_features(0.5, "float64"), seed=0))
    assert len(np.unique(first, axis=0)) == 4
    assert np.any(first != other)
    assert wide.dtype == np.float64
    np.testing.assert_array_equal(wide == 0, first)


def test_only_the_last_part_draws_and_only_with_a_key():
    variables = random_variables(TINY, "float32")
    *_, head = TINY.parts()
    own, x = head.take(variables), jnp.ones((2, 3, 3, 8))
    run = jax.jit(head.run, static_argnums=2)
    (plain,), _ = run(own, x, "running")
    (again,), _ = run(own, x, "running")
    (drawn,), _ = run(own, x, "running", jax.random.key(0))
    np.testing.assert_array_equal(plain, again)
    assert np.any(np.asarray(plain) != np.asarray(drawn))


@pytest.mark.parametrize(
    "fields,message",
    [
        ({"units": (), "widths": ()}, "one or more of 3 5 7 X for each stage"),
        ({"units": ("33X5", "", "7", "7")}, "are not the kinds of each stage's"),
        ({"units": ("33X5", "49", "7", "7")}, r'for example units=\("33X5", "5533"\)'),
        ({"widths": (68, 168)}, r"widths \(68, 168\) are not those of 4 stages; one for each"),
        ({"widths": (68, 168, 336, 673)}, "even, and each more than the one before"),
        ({"stem_width": 0}, "stem_width 0 is not positive"),
        ({"dropout": 1.0}, "dropout 1.0 is not a share; from 0 to less than 1"),
        ({"classes": 1}, "classes 1 is too few to tell apart; 2 or more"),
        ({"stem": "large"}, "stem 'large' is unknown; there are: cifar, imagenet"),
    ],
    ids=str,
)
def test_an_architecture_that_cannot_be_is_refused(fields, message):
    with pytest.raises(UsageError, match=message):
        ResizableNet(**fields)
