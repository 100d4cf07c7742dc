"""The benchmark of being interruptible: its rows, on tiny networks."""

import families
import jax
import pytest
import warm

from benchmarks import interruptible
from jax_elastic.evaluation.rows import read_json


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(interruptible, "CIFAR", (8, 8, 3))
    networks = {"isresnext": families.SMALL["isresnext"]}
    monkeypatch.setattr(interruptible, "NETWORKS", networks)
    # Far more than all of them take, however busy the machine is.
    monkeypatch.setattr(interruptible, "SHARES", (100.0,))
    monkeypatch.setattr(interruptible.fresh, "variables", lambda net, shape: warm.warmed(net))


def test_a_network_gives_a_row_for_all_answers_and_one_for_each_deadline(tiny, tmp_path, capsys):
    path = tmp_path / "rows.json"
    argv = ["--networks=isresnext", "--batch_sizes=2", "--rounds=3", "--calls=4"]
    interruptible.main([*argv, f"--json={path}"])
    whole, late = read_json(path, "interruptible")
    assert (whole["network"], whole["batch_size"], whole["deadline"]) == ("isresnext", 2, None)
    assert whole["baseline"] in ("forward", "segments")
    assert whole["answers"] == 2
    assert 1 < whole["mac_ratio"] < 1.1
    assert whole["device"].startswith(f"{jax.device_count()} x ")
    assert (late["deadline"], late["answers"], late["late"]) == (100, 2, 0)
    assert late["over"] <= late["over_p99"] < 0
    assert "over, p99" in capsys.readouterr().out


@pytest.mark.parametrize("name,most", [("isresnext", 1.01), ("shallow", 1.01), ("msdnet", 1.01)])
def test_increments_and_answers_of_the_real_networks_cost_what_the_last_point_costs(name, most):
    network = interruptible.NETWORKS[name]
    costs = interruptible.CostModel(network, interruptible.CIFAR)
    macs = costs.cost(interruptible.ALL_EXITS).full
    assert 1 < macs / costs.cost(network.subnets.fullest).full <= most
