"""Notebooks run from top to bottom, and are kept without what a run leaves in them."""

import os
import re
from pathlib import Path

import jax
import nbformat
import pytest
from nbclient import NotebookClient

REPOSITORY = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
CELL_TIMEOUT = 300  # seconds; only a cell that hangs takes as long

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_notebooks():
    assert NOTEBOOKS


@each_notebook
def test_a_notebook_is_valid_and_of_the_form_that_names_its_cells(path):
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)

    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) >= (4, 5)


@each_notebook
def test_a_notebook_keeps_nothing_of_a_run(path):
    notebook = nbformat.read(path, as_version=4)

    assert all(cell.outputs == [] for cell in code_cells(notebook))
    assert all(cell.execution_count is None for cell in code_cells(notebook))
    assert all(cell.metadata == {} for cell in notebook.cells)
    # Of the kernel what every Jupyter has, not the versions of a machine.
    assert notebook.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }


@each_notebook
def test_a_cell_is_named_for_its_idea(path):
    ids = [cell.id for cell in nbformat.read(path, as_version=4).cells]

    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", name) for name in ids)
    assert len(set(ids)) == len(ids)


@each_notebook
def test_a_notebook_names_no_path_of_a_machine(path):
    assert not re.search(r"/(home|root|Users|tmp|work|mnt|content)\b|[A-Z]:\\", path.read_text())


@each_notebook
def test_a_notebook_uses_public_names_only(path):
    for cell in code_cells(nbformat.read(path, as_version=4)):
        assert not re.search(r"(\.|\bimport\s+)_\w", cell.source), cell.id


@pytest.mark.slow
@each_notebook
def test_a_notebook_runs_and_warns_of_nothing(path, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    )

    client.execute(env=environment())

    for cell in code_cells(notebook):
        texts = [output for output in cell.outputs if output.output_type == "stream"]
        assert [output.text for output in texts if output.name == "stderr"] == [], cell.id


def environment():
    """The suite's, so that the kernel finds the package, the data sets and what was compiled."""
    return {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
