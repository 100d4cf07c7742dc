"""What a resizable network refuses: scales, stages and maps that it does not have."""

import families
import jax
import pytest
import warm

from jax_elastic.backbones.resnet import ResNet
from jax_elastic.elastic.family import Draw
from jax_elastic.elastic.resizable.resizable import Resizable
from jax_elastic.errors import UsageError
from jax_elastic.subnet import Subnet

NET = families.SMALL["resizable"]


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ("resolution:0.7,1", r"0.7,1 does not fit .* resolution:v,v with each v from \{0.5, 1\}"),
        ("resolution:1", r"resolution:1 does not fit .* it takes resolution:v,v"),
        ("resolution:1,1,1", r"resolution:1,1,1 does not fit .* it takes resolution:v,v"),
        ("width:1", r"width:1 does not fit .* it takes resolution:v,v"),
    ],
)
@pytest.mark.parametrize("door", [NET.check, NET.segments], ids=["check", "segments"])
def test_another_scale_or_number_of_stages_is_no_point_of_the_network(door, point, message):
    with pytest.raises(UsageError, match=message):
        door(Subnet.parse(point))


def test_a_scale_that_leaves_a_stage_without_a_map_is_refused_when_the_network_is_made():
    # Stages of 4 and 2 pixels.
    with pytest.raises(UsageError, match=r"map 2 of 2 at side 4: scale 0\.3 leaves no map of"):
        Resizable(ResNet((1, 1), width=4), scales=(0.3, 1.0), side=4)


def run_segment(variables, images):
    NET.segments(NET.subnets.fullest)[0].code.open({}, {"image": images})


def predict(variables, images):
    NET.predict(variables, images, (NET.subnets.fullest,), None)


def estimate(variables, images):
    NET.moments(variables, images, NET.subnets.fullest, None)


def train_traced(variables, images):
    batch = {**warm.random_batch(len(images)), "image": images}
    draw = Draw(None, NET.subnets.coords(NET.subnets.fullest))
    NET.loss(variables, batch, draw, jax.random.key(0), "fair", "batch")


@pytest.mark.parametrize("door", [NET.init, run_segment, predict, estimate, train_traced])
def test_images_that_would_be_made_smaller_are_refused(door):
    # The network's squares have 12 pixels. Abstract arrays: it is refused before anything runs.
    images = jax.ShapeDtypeStruct((2, 12, 16, 3), "float32")
    given = jax.random.key(0) if door == NET.init else warm.random_weights(NET)

    with pytest.raises(UsageError, match=r"images are 12x16; at most 12x12; .* larger .*side"):
        jax.eval_shape(door, given, images)
