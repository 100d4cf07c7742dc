"""A workdir as a run on digits leaves it, of random weights that nothing was compiled for."""

import jax
import jax.numpy as jnp
import warm

from jax_elastic.elastic.reads import statistics_read
from jax_elastic.subnet import Subnet
from jax_elastic.training.checkpoint import Checkpoints
from jax_elastic.training.workdir import CHECKPOINTS, claim


def leave_run(workdir, experiment, *points):
    """Fills a workdir; the banks of these operating points count as updated once."""
    network = experiment.network
    fresh = warm.random_weights(network, 1)

    def grey(path, leaf):
        """Digits have one channel."""
        names = jax.tree_util.keystr(path, simple=True, separator="/")
        return leaf[:, :, :1] if names.endswith("stem/conv/kernel") else leaf

    fresh["params"] = jax.tree_util.tree_map_with_path(grey, fresh["params"])

    def trained(mask, leaf):
        counts = jnp.issubdtype(leaf.dtype, jnp.integer)
        return leaf + mask.astype(leaf.dtype) if counts else leaf

    stats = fresh["stats"]
    for point in points:
        stats = jax.tree.map(trained, statistics_read(network, fresh, Subnet.parse(point)), stats)
    claim(workdir, experiment)
    names = [str(i) for i in range(10)]
    with Checkpoints(workdir / CHECKPOINTS) as checkpoints:
        items = {"variables": {"params": fresh["params"], "stats": stats}}
        meta = {"phase": 0, "phase_name": "only", "planned": 80, "class_names": names}
        checkpoints.save(40, items, meta)
    return workdir
