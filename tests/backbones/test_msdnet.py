"""MSDNet: the public code's costs at every exit, and increments that are the whole network."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_elastic.backbones.msdnet import MSDNet
from jax_elastic.errors import UsageError
from jax_elastic.macs import count_jaxpr

# Four layers in two runs: the third drops the finer scale and halves the channels.
NET = MSDNet(
    exits=3,
    base=2,
    step=1,
    channels=2,
    growth=2,
    growth_factors=(1, 2),
    bottleneck_factors=(1, 2),
    classes=(3, 2),
)
IMAGES = np.random.default_rng(0).normal(size=(2, 6, 4, 3)).astype(np.float32)

FOUR_SCALES = {"growth_factors": (1, 2, 4, 4), "bottleneck_factors": (1, 2, 4, 4)}
CIFAR_10 = MSDNet(conv="native")
CIFAR_100 = MSDNet(classes=(100,), conv="native")
# The public README's network for dynamic evaluation, where depth grows from exit to exit.
GROWING = MSDNet(exits=5, base=1, step=1, stepmode="lin_grow", classes=(100,), conv="native")
IMAGENET = MSDNet(
    exits=5,
    base=7,
    step=7,
    channels=32,
    growth=16,
    classes=(1000,),
    stem="imagenet",
    conv="native",
    **FOUR_SCALES,
)


def measure(module, x):
    """A module's output shapes for inputs of shapes `x`, its MACs and its parameters."""

    def fresh(x):
        return module.init_with_output(jax.random.key(0), x, "running")

    # One trace gives all three; that of a deep network takes seconds.
    jaxpr, (out, variables) = jax.make_jaxpr(fresh, return_shape=True)(x)
    return out, count_jaxpr(jaxpr), sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


@functools.cache
def measure_increment(net, k, x):
    """`measure` of an increment; a deep one is traced for seconds."""
    return measure(net.make_increment(k), x)


def costs(net, side):
    """(MACs, parameters) of what each exit needs: increments 1..k and exit k."""
    x = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    macs, params, found = 0, 0, []
    # An increment has no classifier, so networks that differ in classes alone share it.
    common = dataclasses.replace(net, classes=(2,))
    for k in range(1, net.exits + 1):
        x, more_macs, more_params = measure_increment(common, k, x)
        macs, params = macs + more_macs, params + more_params
        _, exit_macs, exit_params = measure(net.make_exit(k), x)
        found.append((macs + exit_macs, params + exit_params))
    return found


# docs/choices.md M3: (MACs, parameters) of every exit of kalviny/MSDNet-PyTorch with its
# classifiers replaced by BN-ReLU-GAP-linear; hooks on convolutions and linear layers counted.
PUBLIC = {
    "CIFAR-10": """
        11417152 90618   17272864 133626  24160768 183258  34734696 278566  40301640 325750
        46753320 379846  54089736 440854  62297944 557358  67410232 638286  73112344 728430""",
    "CIFAR-100": """
        11431552 105108  17291584 152436  24183808 206388  34749456 293416  40320720 344920
        46776720 403336  54117456 468664  62314864 574368  67431472 659616  73137904 754080""",
    "growing": """
        4576864 46536  8888608 83928  19435680 168556  29251104 261196  41529664 448028""",
    "ImageNet": """
        552311296 2786120    1296786432 6229544   2075184896 10507240
        2707949696 15008104  2822196864 17783912""",
}


@pytest.mark.parametrize(
    "net,side,name",
    [
        (CIFAR_10, 32, "CIFAR-10"),
        (CIFAR_100, 32, "CIFAR-100"),
        (GROWING, 32, "growing"),
        (IMAGENET, 224, "ImageNet"),
    ],
    ids=PUBLIC,
)
def test_every_exit_costs_what_it_does_in_the_public_code(net, side, name):
    expected = [int(number) for number in PUBLIC[name].split()]

    assert costs(net, side) == list(zip(expected[::2], expected[1::2], strict=True))


@pytest.fixture(scope="module")
def variables():
    """Of `NET`: every number random, variances and scales positive."""
    shapes = jax.eval_shape(lambda: NET.module().init(jax.random.key(0), IMAGES, "running"))
    rng = np.random.default_rng(1)

    def draw(leaf):
        if len(leaf.shape) > 1:
            return jnp.asarray(rng.normal(scale=0.4, size=leaf.shape), leaf.dtype)
        return jnp.asarray(rng.uniform(0.5, 2, leaf.shape), leaf.dtype)

    return {name: jax.tree.map(draw, shapes[name]) for name in ("params", "stats")}


def own(variables, name):
    """The variables of one increment or exit."""
    return {collection: tree[name] for collection, tree in variables.items()}


def whole(variables, bn, exits=None):
    """Logits of every exit and the moments of the network."""
    logits, sown = NET.module().apply(variables, IMAGES, bn, exits, mutable=["moments"])
    return logits, sown.get("moments", {})


def chain(variables, bn):
    """Logits and moments of the increments and exits one by one."""
    logits, moments, x = [], {}, IMAGES
    for k in range(1, NET.exits + 1):
        name = f"increment{k}"
        x, sown = NET.make_increment(k).apply(own(variables, name), x, bn, mutable=["moments"])
        moments[name] = sown.get("moments", {})
        name = f"exit{k}"
        out, sown = NET.make_exit(k).apply(own(variables, name), x, bn, mutable=["moments"])
        moments[name] = sown.get("moments", {})
        logits.append(out)
    return tuple(logits), {name: tree for name, tree in moments.items() if tree}


@pytest.mark.parametrize("bn", ["batch", "running"])
def test_the_increments_one_by_one_are_the_whole_network_bit_for_bit(variables, bn):
    logits, moments = whole(variables, bn)
    expected, chained = chain(variables, bn)

    chex.assert_trees_all_equal(logits, expected)
    chex.assert_trees_all_equal(moments, chained)
    assert bool(moments) == (bn == "batch")


def test_each_exit_gives_the_logits_of_every_label_level(variables):
    logits, _ = whole(variables, "running")

    assert jax.tree.map(jnp.shape, logits) == (((2, 3), (2, 2)),) * 3
    assert set(variables["params"]["exit2"]) == {"bn", "classifier", "classifier2"}


def test_maps_keep_the_dtype_of_the_images_and_logits_are_float32():
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.bfloat16)

    def forward(x):
        first, _ = IMAGENET.make_first().init_with_output(jax.random.key(0), x, "running")
        layer = NET.make_layer(NET.sites()[2])
        maps, _ = layer.init_with_output(jax.random.key(0), first[:2], "running")
        return first, maps, NET.make_exit(1).init_with_output(jax.random.key(0), maps, "running")[0]

    first, maps, logits = jax.eval_shape(forward, images)

    assert {leaf.dtype for leaf in (*first, *maps)} == {jnp.dtype("bfloat16")}
    assert {leaf.dtype for leaf in logits} == {jnp.dtype("float32")}


@pytest.mark.parametrize("k", [1, 2])
def test_a_pass_that_stops_at_an_exit_is_the_start_of_the_whole_pass(variables, k):
    stopped, _ = whole(variables, "running", tuple(range(1, k + 1)))
    full, _ = whole(variables, "running")

    chex.assert_trees_all_equal(stopped, full[:k])


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("bn", ["batch", "running"])
def test_an_exit_does_not_depend_on_what_comes_after_it_nor_on_other_exits(variables, bn, k):
    needed = {*(f"increment{i}" for i in range(1, k + 1)), f"exit{k}"}

    def poison(tree):
        return jax.tree.map(lambda leaf: jnp.full_like(leaf, -7), tree)

    poisoned = {
        collection: {n: tree if n in needed else poison(tree) for n, tree in names.items()}
        for collection, names in variables.items()
    }
    before, after = whole(variables, bn)[0], whole(poisoned, bn)[0]

    chex.assert_trees_all_equal(before[k - 1], after[k - 1])
    others = [i for i in range(NET.exits) if i != k - 1]
    assert not any(np.array_equal(before[i][0], after[i][0]) for i in others)


@pytest.mark.parametrize("k,scale", [(1, 0), (1, 1), (2, 0)])
def test_the_next_increment_reads_every_map_that_is_handed_on(variables, k, scale):
    x = IMAGES
    for i in range(1, k + 1):
        x = NET.make_increment(i).apply(own(variables, f"increment{i}"), x, "running")
    changed = (*x[:scale], x[scale] + 1, *x[scale + 1 :])
    following = NET.make_increment(k + 1)
    name = f"increment{k + 1}"

    before = following.apply(own(variables, name), x, "running")
    after = following.apply(own(variables, name), changed, "running")

    assert scale < len(x)
    assert not any(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_the_finest_scale_is_dropped_and_channels_are_halved_at_the_start_of_a_run():
    found = [(site.increment, site.finest, site.drops, site.channels) for site in NET.sites()]

    assert found == [(1, 0, False, 4), (1, 0, False, 6), (2, 1, True, 4), (3, 1, False, 6)]


@pytest.mark.parametrize(
    "net,depths",
    [
        (CIFAR_10, (4, 2, 2, 2, 2, 2, 2, 2, 2, 2)),
        (GROWING, (1, 2, 3, 4, 5)),
        (MSDNet(exits=3, base=5, step=2, stepmode="lin_grow"), (5, 3, 5)),
    ],
    ids=["even", "lin_grow", "lin_grow in twos"],
)
def test_increments_have_the_depths_of_their_stepmode(net, depths):
    assert net.depths == depths


@pytest.mark.parametrize(
    "stem,side,sides",
    [
        ("cifar", (9, 6), [(9, 6), (5, 3), (3, 2), (2, 1)]),
        ("imagenet", (37, 17), [(10, 5), (5, 3), (3, 2), (2, 1)]),
    ],
    ids=["cifar", "imagenet"],
)
def test_each_scale_halves_the_map_in_ceil_mode(stem, side, sides):
    net = MSDNet(exits=1, channels=1, stem=stem, **FOUR_SCALES)
    image = jax.ShapeDtypeStruct((1, *side, 3), jnp.float32)

    maps, _ = jax.eval_shape(
        lambda x: net.make_first().init_with_output(jax.random.key(0), x, "running"), image
    )

    assert [leaf.shape for leaf in maps] == [
        (1, *found, factor) for found, factor in zip(sides, net.growth_factors, strict=True)
    ]


@pytest.mark.parametrize(
    "net,side,smallest",
    [
        (MSDNet(), 2, 2),
        (MSDNet(**FOUR_SCALES), 4, 4),
        (MSDNet(stem="imagenet", **FOUR_SCALES), 16, 16),
    ],
    ids=["3 scales", "4 scales", "4 scales, ImageNet"],
)
def test_an_image_that_cannot_be_halved_so_often_is_refused(net, side, smallest):
    image = jax.ShapeDtypeStruct((1, 32, side, 3), jnp.float32)

    with pytest.raises(UsageError, match=f"too small for . scales; sides of more than {smallest} "):
        jax.eval_shape(lambda x: net.make_first().init(jax.random.key(0), x, "running"), image)


@pytest.mark.parametrize("make", ["make_increment", "make_exit"])
@pytest.mark.parametrize("k", [0, 4])
def test_an_exit_that_does_not_exist_is_refused(make, k):
    with pytest.raises(UsageError, match=f"exit {k} does not exist; exits are 1 to 3"):
        getattr(NET, make)(k)


@pytest.mark.parametrize("k", [0, 4])
def test_a_pass_to_an_exit_that_does_not_exist_is_refused(variables, k):
    with pytest.raises(UsageError, match=f"exit {k} does not exist"):
        whole(variables, "running", (1, k))


@pytest.mark.parametrize(
    "fields,message",
    [
        ({"exits": 0}, "exits 0 is not positive"),
        ({"base": 0}, "base 0 is not positive"),
        ({"step": -1}, "step -1 is not positive"),
        ({"channels": 0}, "channels 0 is not positive"),
        ({"growth": 0}, "growth 0 is not positive"),
        ({"stepmode": "odd"}, "stepmode 'odd' is unknown; even or lin_grow"),
        ({"growth_factors": (), "bottleneck_factors": ()}, "do not name the same scales"),
        ({"growth_factors": (1, 2)}, r"\(1, 2\) and .* \(1, 2, 4\) do not name the same scales"),
        ({"bottleneck_factors": (1, 2, 0)}, "hold one below 1"),
        ({"growth": 3, "growth_factors": (1, 2, 3)}, "growth 3 times the factor 3 is odd"),
        ({"classes": ()}, r"classes \(\) leave nothing to tell apart; 2 or more per label level"),
        ({"classes": (10, 1)}, r"classes \(10, 1\) leave nothing to tell apart"),
    ],
    ids=str,
)
def test_an_architecture_that_cannot_be_is_refused(fields, message):
    with pytest.raises(UsageError, match=message):
        MSDNet(**fields)
