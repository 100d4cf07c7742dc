import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

import jax_elastic.data.digits  # noqa: F401  registers the set with TFDS
from jax_elastic.data.taxonomy import Taxonomy, load_taxonomy, taxonomy_names
from jax_elastic.errors import UsageError

SHIPPED = taxonomy_names()
COUNTS = {
    "cifar100": (100, 20),
    "cub200": (200, 123, 37, 12),
    "digits": (10, 3),
    "digits_parity": (10, 2),
}
# Coarse label of each fine one, both by number, as CIFAR-100's archive has them.
CIFAR100 = (
    *(4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11, 6, 11, 5, 10, 7),
    *(6, 13, 15, 3, 15, 0, 11, 1, 10, 12, 14, 16, 9, 11, 5, 5, 19, 8, 8, 15, 13, 14, 17, 18, 10),
    *(16, 4, 17, 4, 2, 0, 17, 4, 18, 17, 10, 3, 2, 12, 12, 16, 12, 1, 9, 19, 2, 10, 0, 1, 16),
    *(12, 9, 13, 15, 13, 16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0, 17, 8, 14, 13),
)
BIRDS = Taxonomy(
    "birds",
    "by hand",
    ("class", "genus", "order"),
    (
        ("crow", "corvus", "passeriformes"),
        ("raven", "corvus", "passeriformes"),
        ("wren", "troglodytes", "passeriformes"),
        ("mallard", "anas", "anseriformes"),
    ),
)
DOCUMENT = {
    "schema": 1,
    "kind": "taxonomy",
    "dataset": "birds",
    "source": "by hand",
    "levels": list(BIRDS.levels),
    "ancestors": {own: above for own, *above in BIRDS.paths},
}


def write(folder: Path, **changes: object) -> str:
    """A file of the birds with other fields; None leaves one out."""
    fields = {key: value for key, value in {**DOCUMENT, **changes}.items() if value is not None}
    path = folder / "birds.json"
    path.write_text(json.dumps(fields))
    return str(path)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_taxonomy_of_the_package_has_a_source_and_the_classes_of_its_set(name: str):
    taxonomy = load_taxonomy(name)
    features = tfds.builder(taxonomy.dataset).info.features
    assert taxonomy.source
    assert taxonomy.counts == COUNTS[name]
    assert taxonomy.counts[0] == features["label"].num_classes
    # Some sets only number their classes, others do until they are downloaded.
    assert taxonomy.of_classes(features["label"].names).counts == taxonomy.counts


def test_the_superclasses_of_cifar100_are_those_of_its_archive():
    taxonomy = load_taxonomy("cifar100")
    assert taxonomy.counts == (100, 20)
    assert taxonomy.labels(np.arange(100)).tolist() == [[i, c] for i, c in enumerate(CIFAR100)]
    assert taxonomy.counts[1] == tfds.builder("cifar100").info.features["coarse_label"].num_classes


@pytest.mark.parametrize(
    ("name", "names", "labels"),
    [
        ("digits", ("no_loop", "one_loop", "two_loops"), [1, 0, 0, 0, 1, 0, 1, 0, 2, 1]),
        ("digits_parity", ("even", "odd"), [0, 1] * 5),
    ],
)
def test_digits_are_told_apart_by_their_shape_or_parity(name, names, labels):
    taxonomy = load_taxonomy(name)
    assert taxonomy.names == (tuple("0123456789"), names)
    assert taxonomy.labels(np.arange(10))[:, 1].tolist() == labels


def test_a_file_of_ones_own_is_read_and_coarse_classes_are_numbered_by_their_sorted_names(tmp_path):
    taxonomy = load_taxonomy(write(tmp_path))
    assert taxonomy == BIRDS
    assert taxonomy.counts == (4, 3, 2)
    assert taxonomy.names[1:] == (
        ("anas", "corvus", "troglodytes"),
        ("anseriformes", "passeriformes"),
    )
    found = taxonomy.labels(np.array([0, 2, 3, 0]))
    assert found.tolist() == [[0, 1, 1], [2, 2, 1], [3, 0, 0], [0, 1, 1]]
    assert found.dtype == np.int32


def test_classes_are_found_by_name_in_whatever_order_the_file_has_them():
    names = ("mallard", "crow", "wren", "raven")
    taxonomy = BIRDS.of_classes(names)
    assert taxonomy.names[0] == names
    assert taxonomy.labels(np.arange(4))[:, 1].tolist() == [0, 1, 2, 1]


def test_a_set_that_only_numbers_its_classes_has_them_in_the_order_of_the_file():
    assert BIRDS.of_classes(("0", "1", "2", "3")) == BIRDS


@pytest.mark.parametrize("change", ["levels", "paths"])
def test_the_fingerprint_tells_taxonomies_apart(change):
    other = {
        "levels": ("class", "genus", "rank"),
        "paths": (("crow", "pica", "passeriformes"), *BIRDS.paths[1:]),
    }
    changed = dataclasses.replace(BIRDS, **{change: other[change]})
    assert changed.fingerprint != BIRDS.fingerprint
    assert dataclasses.replace(BIRDS, source="elsewhere").fingerprint == BIRDS.fingerprint


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("crow", "raven", "wren", "duck"), "has no duck; it has mallard, which the set lacks"),
        (("crow", "raven", "wren"), "birds has mallard, which the set lacks"),
        (("0", "1", "2"), "has no 0, 1, 2; it has crow, raven, wren, mallard"),
    ],
)
def test_a_set_of_other_classes_is_refused(names, message):
    with pytest.raises(UsageError, match=message):
        BIRDS.of_classes(names)


ANCESTORS = DOCUMENT["ancestors"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "eval"}, "birds.json is no taxonomy; a file of kind 'taxonomy'"),
        ({"schema": 2}, "has schema 2; this version reads 1"),
        ({"source": None}, "lacks source"),
        ({"levels": "class"}, "has no list of levels"),
        ({"ancestors": []}, "no group of ancestors"),
        ({"ancestors": {}}, "no group of ancestors"),
        ({"ancestors": {"crow": "corvus"}}, "ancestors that are no list of names: crow"),
        ({"levels": ["class"]}, "has the levels class; two or more"),
        ({"levels": ["class", "order", "order"]}, "no two of one name"),
        (
            {"ancestors": {**ANCESTORS, "wren": ["troglodytes"]}},
            "wrong numbers of ancestors: wren has 1; one for each of genus, order",
        ),
        (
            {"ancestors": {**ANCESTORS, "raven": ["corvus", "anseriformes"]}},
            "does not nest at level order: corvus lies in anseriformes and passeriformes",
        ),
        (
            {"ancestors": {own: [*above[:1], "aves"] for own, above in ANCESTORS.items()}},
            "has 1 classes at level order; two or more",
        ),
    ],
)
def test_a_file_that_is_no_taxonomy_is_refused(tmp_path, changes, message):
    with pytest.raises(UsageError, match=message):
        load_taxonomy(write(tmp_path, **changes))


def test_a_class_that_stands_twice_is_refused_and_not_taken_from_the_later_place(tmp_path):
    path = tmp_path / "birds.json"
    path.write_text('{"kind": "taxonomy", "ancestors": {"crow": ["a"], "crow": ["b"]}}')
    with pytest.raises(UsageError, match="is not JSON: crow more than once"):
        load_taxonomy(str(path))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifar1000", "no taxonomy 'cifar1000'; one of cifar100, .*digits, digits_parity"),
        ("nowhere/birds.json", "nowhere/birds.json cannot be read: No such file"),
    ],
)
def test_a_name_that_leads_nowhere_is_answered_with_what_there_is(name, message):
    with pytest.raises(UsageError, match=message):
        load_taxonomy(name)
