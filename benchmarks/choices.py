"""What a network is taught that chooses between operating points of a trained one.

The candidates are the front of all its points on the validation split; what each training image
should choose is what they make of it. Both lie where the commands `search` and `targets` leave
them, in its workdir.
"""

from collections.abc import Callable
from pathlib import Path

from jax_elastic.data.datasets import load
from jax_elastic.data.targets import Targets, read_targets
from jax_elastic.elastic.family import Variables
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.cost import CostModel
from jax_elastic.inference.candidates import from_search
from jax_elastic.inference.measures import Measures
from jax_elastic.inference.strategy import Grid
from jax_elastic.inference.table import Table
from jax_elastic.inference.targets import by_cost, check_choice, measure, some_images
from jax_elastic.subnet import Subnet
from jax_elastic.training.experiment import Experiment
from jax_elastic.training.workdir import load_variables


def teach(
    workdir: Path, experiment: Experiment, candidates: int, report: Callable[[str], None]
) -> tuple[Targets, Path]:
    """Candidates among a network's operating points, and the best of them for all training images.

    Args:
      workdir: of the trained network.
      experiment: its own.
      candidates: how many; of a longer front both ends and others evenly between.
      report: gets lines for the terminal, where something is measured.

    Returns:
      The targets, and the file that they are kept in.

    Raises:
      UsageError: the front is shorter, there are targets of others already, or as of `Measures`,
        `check_choice` and `measure`.
    """
    variables, meta = load_variables(workdir, experiment)
    checkpoint = meta["hashes"][meta["item"]]
    points = _front(workdir, experiment, variables, checkpoint, candidates, report)
    network = experiment.network
    check_choice(network, variables, points)
    dataset = load(experiment.data, "train")
    ids = some_images(len(dataset), len(dataset), experiment.seed)
    names = tuple(map(str, by_cost(CostModel(network, experiment.data.image_shape), points)))
    found = Targets.begin(ids, names, checkpoint, dataset.fingerprint)
    path = workdir / "targets.npz"
    if path.exists():
        there = read_targets(path)
        if others := there.differences(found):
            raise UsageError(
                f"{path} has targets of other {' and '.join(others)}", next_step=f"delete {path}"
            )
        found = there
    for further in measure(network, variables, dataset, experiment.data, found):
        found = further
        report(f"targets of {found.done} of {len(ids)} images")
    found.write(path)
    return found, path


def _front(
    workdir: Path,
    experiment: Experiment,
    variables: Variables,
    checkpoint: str,
    most: int,
    report: Callable[[str], None],
) -> tuple[Subnet, ...]:
    """So many operating points of the front on validation data, cheapest first.

    Raises:
      UsageError: the front is shorter.
    """
    dataset = load(experiment.data, "validation")
    known = {"split": "validation", "n": len(dataset), "hash": checkpoint}
    path = workdir / "search.json"
    measures = Measures(experiment.network, variables, dataset, experiment.data)
    Table(path, known).fill(Grid.of(experiment.network).every(), measures, report)
    points = from_search(path, checkpoint, most)
    if len(points) < most:
        raise UsageError(
            f"the front of {path} has {len(points)} operating points",
            f"{most}, as many as for all seeds",
            "ask for fewer candidates",
        )
    return points
