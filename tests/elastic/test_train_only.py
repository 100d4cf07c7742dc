"""What only teaches a network is in its training state and in nothing that is saved for use."""

import jax
import numpy as np
from families import SMALL
from left_run import leave_run

import jax_elastic
from jax_elastic.data.data_config import DataConfig
from jax_elastic.elastic.train_only import TRAIN_ONLY
from jax_elastic.inference.pretrained import pretrained, write_pretrained
from jax_elastic.training.experiment import Experiment
from jax_elastic.training.phases import Phase
from jax_elastic.training.workdir import load_variables

NETWORK = SMALL["sgad"]
PHASE = Phase("only", 1, NETWORK.objectives[0], 0.1)
EXPERIMENT = Experiment(network=NETWORK, phases=(PHASE,), data=DataConfig())


def test_a_workdir_keeps_it_and_what_is_loaded_or_shipped_leaves_it_out(tmp_path):
    workdir = leave_run(tmp_path / "run", EXPERIMENT, "full")

    kept, _ = load_variables(workdir, EXPERIMENT)
    network, loaded, experiment = jax_elastic.load(workdir)
    write_pretrained("shipped", experiment, kept, [], {"command": "make it"}, tmp_path / "shop")
    _, shipped, _ = pretrained("shipped", tmp_path / "shop")

    assert network == NETWORK
    assert TRAIN_ONLY in kept["params"] and TRAIN_ONLY in kept["stats"]
    assert not any(TRAIN_ONLY in found[name] for found in (loaded, shipped) for name in found)
    jax.tree.map(np.testing.assert_array_equal, shipped, loaded)
