"""PyTorch's network and step are ours: as many parameters, the same function, the same update."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_elastic.backbones.resnet import ResNet
from jax_elastic.elastic.family import Draw
from jax_elastic.elastic.plain import Plain
from jax_elastic.subnet import FULL
from jax_elastic.training.phases import Phase, make_optimizer, spans
from jax_elastic.training.state import TrainState
from jax_elastic.training.step import make_step

torch = pytest.importorskip("torch")
peer = pytest.importorskip("benchmarks.peer_torch")

SMALL = ResNet((2, 1, 2), width=4, classes=3)
PHASE = Phase("base", 1.0, "base", learning_rate=0.1, weight_decay=1e-2, batch_size=8)
# Float32 sums of some hundred terms in another order, twice through BN of few values.
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def variables(architecture):
    images = jnp.zeros((1, 8, 8, 3))
    return Plain(architecture).init(jax.random.key(0), images)


def batch():
    rng = np.random.default_rng(0)
    return rng.normal(size=(8, 8, 8, 3)).astype(np.float32), rng.integers(3, size=8)


def torch_parameters(architecture, params):
    """Ours as PyTorch names and lays them: kernels (O, C, k, k), blocks one by one."""

    def pair(conv, bn, ours, suffix=""):
        kernel = jnp.transpose(ours["conv" + suffix]["kernel"], (3, 2, 0, 1))
        norm = ours["bn" + suffix]
        return {f"{conv}.weight": kernel, f"{bn}.weight": norm["scale"], f"{bn}.bias": norm["bias"]}

    found = pair("conv", "bn", params["stem"])
    for place, site in enumerate(architecture.sites()):
        ours = params
        for name in site.path:
            ours = ours[name]
        if site.index is not None:
            ours = jax.tree.map(lambda leaf, at=site.index: leaf[at], ours)
        for i in ("1", "2"):
            found |= pair(f"blocks.{place}.conv{i}", f"blocks.{place}.bn{i}", ours, i)
    classifier = params["head"]["classifier"]
    found |= {"classifier.weight": classifier["kernel"].T, "classifier.bias": classifier["bias"]}
    return {name: torch.from_numpy(np.array(leaf)) for name, leaf in found.items()}


def with_our_parameters(architecture, params):
    network = peer.Network(architecture)
    missing, unknown = network.load_state_dict(torch_parameters(architecture, params), strict=False)
    assert not unknown
    assert all("running" in name or "num_batches" in name for name in missing)
    return network


@pytest.mark.parametrize("size", [3, 5])
def test_both_networks_have_as_many_parameters(size):
    architecture = ResNet((size,) * 3)
    ours = jax.eval_shape(lambda: variables(architecture))["params"]

    theirs = peer.Network(architecture).parameters()

    assert sum(leaf.size for leaf in jax.tree.leaves(ours)) == sum(p.numel() for p in theirs)


def test_with_the_same_parameters_both_networks_give_the_same_logits():
    fresh, (images, _) = variables(SMALL), batch()
    plain = Plain(SMALL)
    ours, _, _ = plain.forward(SMALL.module(), fresh, jnp.asarray(images), "batch")

    network = with_our_parameters(SMALL, fresh["params"]).train()
    theirs = network(torch.from_numpy(images).permute(0, 3, 1, 2))

    np.testing.assert_allclose(theirs.detach().numpy(), ours, **CLOSE)


@pytest.mark.parametrize("channels_last", [False, True])
def test_two_steps_leave_both_networks_with_the_same_parameters(channels_last):
    fresh, (images, labels) = variables(SMALL), batch()
    (span,) = spans((PHASE,), 8)
    optimizer = make_optimizer(span)
    step = jax.jit(make_step(Plain(SMALL), PHASE, optimizer, "sliced"))
    opt_state = optimizer.init(fresh["params"])
    state = TrainState(fresh["params"], fresh["stats"], opt_state, jnp.int32(0), jnp.uint32(0))
    targets = (jax.nn.one_hot(labels, 3),)
    ours = {"image": jnp.asarray(images), "targets": targets, "mask": jnp.ones(8)}

    network = with_our_parameters(SMALL, fresh["params"])
    channels_first = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    theirs = peer.training_step(
        network, PHASE, channels_first, torch.from_numpy(labels), channels_last
    )
    for _ in range(2):
        state, sums = step(state, ours, (Draw(FULL),))
        loss = theirs()

    np.testing.assert_allclose(loss, sums["loss"][0], **CLOSE)
    trained = torch_parameters(SMALL, state.params)
    for name, parameter in network.named_parameters():
        np.testing.assert_allclose(parameter.detach(), trained[name], **CLOSE, err_msg=name)
