"""Imports run one way only, so that a part can be read without what is built on it."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "jax_elastic"

# From the ground up: a part may import its own floor and those below. For data see DATA.
FLOORS = (
    ("errors", "files", "rng", "subnet", "gates", "macs"),
    ("layers",),
    ("backbones",),
    ("elastic",),
    ("training",),
    ("evaluation",),
    ("inference",),
    ("cli", "__main__", "__init__"),
)
RANK = {part: floor for floor, parts in enumerate(FLOORS) for part in parts}
# data stands aside: it knows nothing of models, and models know nothing of it.
DATA = {"data", "errors", "rng", "files"}
READS_DATA = {"data", *FLOORS[4], *FLOORS[5], *FLOORS[6], *FLOORS[7]}


def allowed(importer, imported):
    if importer == "data":
        return imported in DATA
    if imported == "data":
        return importer in READS_DATA
    # What is no part is a name of the package's face, which stands on everything.
    return RANK[importer] >= RANK.get(imported, RANK["__init__"])


def imported_parts(source):
    """(line, part) of every import from the package, wherever it stands in the source."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            raise ValueError(f"line {node.lineno}: write the whole name, not a relative import")
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            package, _, rest = name.partition(".")
            if package == "jax_elastic" and rest:
                yield node.lineno, rest.split(".")[0]


def violations(part, source):
    return [
        f"line {line}: {part} imports {imported}"
        for line, imported in imported_parts(source)
        if not allowed(part, imported)
    ]


def part_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


SOURCES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    assert violations(part_of(path), path.read_text()) == []


@pytest.mark.parametrize(
    "part,source",
    [
        ("layers", "from jax_elastic.backbones.resnet import ResNet"),
        ("elastic", "import jax_elastic.training.loop"),
        ("training", "def late():\n    from jax_elastic.evaluation import evaluate"),
        ("training", "from jax_elastic import inference"),
        ("evaluation", "if True:\n    import os, jax_elastic.inference.engine as engine"),
        ("rng", "from jax_elastic.layers import conv"),
        ("data", "from jax_elastic.subnet import Subnet"),
        ("data", "from jax_elastic.training.config import build"),
        ("elastic", "from jax_elastic.data.augment import normalise"),
        ("inference", "from jax_elastic.cli import main"),
        ("training", "from jax_elastic import Subnet"),
    ],
)
def test_an_import_the_other_way_is_found(part, source):
    assert len(violations(part, source)) == 1


@pytest.mark.parametrize(
    "part,source",
    [
        ("layers", "import jax\nfrom jax_elastic import gates, macs\nimport jax_elastic"),
        ("data", "from jax_elastic.data.split import held_out\nfrom jax_elastic import rng"),
        ("training", "from jax_elastic.data.datasets import load"),
        ("cli", "from jax_elastic.inference import engine\nimport jax_elastic_other.cli"),
    ],
)
def test_an_import_the_right_way_is_not_reported(part, source):
    assert violations(part, source) == []


def test_a_relative_import_is_refused_because_its_target_is_not_written():
    with pytest.raises(ValueError, match="line 1: write the whole name"):
        violations("layers", "from ..training import loop")
