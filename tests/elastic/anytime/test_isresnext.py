"""IS-ResNeXt: exit k of one pass does not depend on any later sub-feature."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import warm
from hypothesis import given, settings
from hypothesis import strategies as st

from jax_elastic.backbones.isresnext import ISResNeXt as Architecture
from jax_elastic.elastic.anytime.isresnext import ISResNeXt
from jax_elastic.elastic.anytime.one_pass import ALL_EXITS
from jax_elastic.elastic.family import Draw
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.cost import CostModel
from jax_elastic.inference.engine import build_engine
from jax_elastic.subnet import Subnet

K = 3
SMALL = ISResNeXt(Architecture((1, 2), 6, 3, 2, K, classes=(5, 2)))
IMAGENET = Architecture((5,) * 4, 160, 30, 4, 5, classes=(1000,), stem="imagenet")
CUB = Architecture((4,) * 4, 192, 36, 4, 6, classes=(200,), stem="imagenet")
WEIGHTS = warm.random_weights(SMALL)
IMAGES = jnp.asarray(warm.random_images(4))


@jax.jit
def everything(variables, k):
    """All answers in training, their moments, and the gradient of exit k's loss."""

    def exit_loss(params):
        found = SMALL.answers({**variables, "params": params}, IMAGES, "batch", (1, 2, 3))
        losses = [sum(jnp.square(level).sum() for level in exit_) for exit_ in found[0]]
        return jnp.stack(losses)[k - 1], found

    gradient, (answers, moments) = jax.grad(exit_loss, has_aux=True)(variables["params"])
    return answers, moments, gradient


@jax.jit
def at_test(variables):
    """All answers under running statistics."""
    return SMALL.answers(variables, IMAGES, "running", (1, 2, 3))[0]


def group_of(path, leaf):
    """Which sub-feature each number of a leaf belongs to, from 1; 0 for counts."""
    names = [part.key for part in path]
    for prefix in ("exit", "group"):
        for name in names:
            if name.startswith(prefix):
                return np.full(leaf.shape, int(name[len(prefix) :]))
    if names[-1] in ("count", "n"):
        return np.zeros(leaf.shape, int)
    share = leaf.shape[-1] // K
    return np.broadcast_to(np.repeat(np.arange(1, K + 1), share), leaf.shape)


@settings(max_examples=10, deadline=None)
@given(k=st.integers(1, K - 1), seed=st.integers(0, 2**16), size=st.sampled_from([1e-3, 0.1, 1.0]))
def test_nothing_of_a_later_sub_feature_changes_a_bit_of_an_exit(k, seed, size):
    rng = np.random.default_rng(seed)

    def change(path, leaf):
        noise = size * rng.normal(size=leaf.shape).astype(np.float32)
        return jnp.where(group_of(path, leaf) > k, leaf + noise, leaf)

    other = jax.tree_util.tree_map_with_path(change, WEIGHTS)
    # Variances stay positive; what they are does not matter in training.
    other["stats"] = jax.tree.map(jnp.abs, other["stats"])
    answers, moments, _ = everything(WEIGHTS, k)
    others, changed, _ = everything(other, k)
    pairs = [(answers, others), (at_test(WEIGHTS), at_test(other))]
    for before, after in pairs:
        for ours, theirs in zip(before[:k], after[:k], strict=True):
            jax.tree.map(np.testing.assert_array_equal, ours, theirs)
        assert not np.array_equal(before[k][0], after[k][0])

    def same(path, leaf, other):
        early = group_of(path, leaf) <= k
        np.testing.assert_array_equal(np.asarray(leaf)[early], np.asarray(other)[early])

    jax.tree_util.tree_map_with_path(same, moments, changed)


@pytest.mark.parametrize("k", [1, 2])
def test_no_gradient_of_an_exit_reaches_a_later_sub_feature(k):
    _, _, gradients = everything(WEIGHTS, k)

    def check(path, leaf):
        late = group_of(path, leaf) > k
        assert not np.asarray(leaf)[late].any()
        return np.asarray(leaf)[group_of(path, leaf) == k].any()

    assert any(jax.tree.leaves(jax.tree_util.tree_map_with_path(check, gradients)))


@pytest.fixture(scope="module")
def in_float64():
    """The network, warmed variables, images, and its answers of one pass."""
    network, variables = dataclasses.replace(SMALL, dtype="float64"), warm.warmed(SMALL)
    with jax.enable_x64(True):
        variables, images = warm.cast(variables, "float64"), jnp.asarray(IMAGES, "float64")
        predict = jax.jit(network.predict, static_argnums=2)
        return network, variables, images, predict(variables, images, tuple(network.subnets), None)


@pytest.mark.parametrize("subnet", SMALL.subnets, ids=str)
def test_an_exit_is_the_same_alone_with_all_others_and_by_increments(in_float64, subnet):
    with jax.enable_x64(True):
        network, variables, images, together = in_float64
        predict = jax.jit(network.predict, static_argnums=2)
        alone = predict(variables, images, (subnet,), None)[0].logits
        engine = build_engine(network, variables, "masked", [subnet])
        for other in (together[int(subnet.value[0]) - 1].logits, engine(images, subnet).logits):
            for level, theirs in zip(alone, other, strict=True):
                # Law 1: 1e-10 in float64; logits are of size 1.
                np.testing.assert_allclose(level, theirs, rtol=0, atol=1e-10)


def test_the_mixing_that_is_counted_and_the_one_that_is_trained_are_one_function():
    with jax.enable_x64(True):
        # Further stages differ in shapes alone.
        backbone = dataclasses.replace(SMALL.backbone, stage_sizes=(2,))
        network = dataclasses.replace(SMALL, backbone=backbone, dtype="float64")
        variables = warm.cast(warm.random_weights(network), "float64")
        batch = warm.random_batch(4, dtype="float64", classes=SMALL.classes)

        def grads(network):
            def loss(params):
                both = {**variables, "params": params}
                return network.loss(both, batch, Draw(None), None, "anytime", "batch")

            return jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])

        ours, theirs = grads(network), grads(network.reference())
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-10), ours, theirs)


@pytest.mark.parametrize(
    "architecture,shape,printed",
    [
        (Architecture(), (32, 32, 3), [13.0, 28.9, 47.8, 69.6, 94.4, 122.1]),
        (IMAGENET, (224, 224, 3), [209.8, 467.8, 773.9, 1128.2, 1530.6]),
        (CUB, (224, 224, 3), [179.5, 397.5, 654.0, 949.1, 1282.8, 1654.9]),
    ],
    ids=["cifar", "imagenet", "cub"],
)
def test_macs_are_those_of_the_paper_to_the_printed_digit(architecture, shape, printed):
    network = ISResNeXt(architecture)
    costs = CostModel(network, shape)
    found = [round(costs.cost(subnet).full / 1e6, 1) for subnet in network.subnets]
    assert found == printed
    # The pass in which all exits answer has the other classifiers beside.
    share = architecture.features(len(architecture.stage_sizes) - 1) // architecture.subfeatures
    others = sum(range(1, architecture.subfeatures)) * share * architecture.classes[0]
    assert costs.cost(ALL_EXITS).full == costs.cost(network.subnets.fullest).full + others


def test_the_loss_adds_up_over_exits_and_label_levels():
    batch = warm.random_batch(4, classes=SMALL.classes)

    @jax.jit
    def loss(batch):
        return SMALL.loss(WEIGHTS, batch, Draw(None), None, "anytime", "batch")

    value, aux = loss(batch)
    answers, _, _ = everything(WEIGHTS, 1)

    def ce(logits, targets):
        return -(jax.nn.log_softmax(logits) * targets).sum(-1).mean()

    expected = sum(
        ce(level, targets)
        for logits in answers
        for level, targets in zip(logits, batch["targets"], strict=True)
    )
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert aux.sums["ce"][1] == 4 * K  # metrics are means over images and exits


@pytest.mark.parametrize(
    "changes,names", [({"width": 7}, "width 7"), ({"branches": 4}, "branches 4")]
)
def test_what_sub_features_cannot_share_is_refused(changes, names):
    with pytest.raises(
        UsageError, match=rf"{names} cannot be shared by 3 sub-features; a multiple of 3"
    ):
        dataclasses.replace(SMALL.backbone, **changes)


def test_the_pass_with_all_exits_has_the_answers_of_all():
    variables = warm.warmed(SMALL)
    engine = build_engine(SMALL, variables, "masked", [ALL_EXITS])
    (whole,) = jax.jit(SMALL.predict, static_argnums=2)(variables, IMAGES, (ALL_EXITS,), None)
    for found in (engine(IMAGES, ALL_EXITS), whole):
        answers = (*found.earlier, found.logits)
        assert len(answers) == K
        for subnet, logits in zip(SMALL.subnets, answers, strict=True):
            for level, theirs in zip(logits, engine(IMAGES, subnet).logits, strict=True):
                # Float32: the same sums in another order.
                np.testing.assert_allclose(level, theirs, rtol=0, atol=1e-5)


def test_a_width_that_is_none_of_the_exits_is_refused():
    with pytest.raises(UsageError, match=r"width:4 does not fit .* from \{1, 2, 3\}, or exits$"):
        SMALL.check(Subnet("width", (4,)))
    with pytest.raises(UsageError, match="depth:1 does not fit"):
        SMALL.predict(WEIGHTS, IMAGES, (Subnet("depth", (1,)),), None)
