"""Families are named in elastic/, in configs and nowhere else: the rest knows only the seams."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "jax_elastic"
PARTS = ("training", "evaluation", "inference", "data", "cli")
SOURCES = sorted(path for part in PARTS for path in (PACKAGE / part).rglob("*.py"))

# In any spelling; "plain" is also an English word, so it counts only where it stands for a family.
NAMES = re.compile(
    r"urnet|sgad|resnext|resizable|\badapt\b|(?-i:\bPlain\b)|elastic\.plain|^plain$", re.I
)
# A command may name the config that it starts with or that it shows as an example.
CONFIG = re.compile(r"configs/\w+\.py(:[\w,]+)?")


def words(node):
    """The names and strings that stand in a node itself."""
    for field in ("id", "attr", "name", "arg", "asname", "module"):
        word = getattr(node, field, None)
        # `plain` as a name of one's own is the English word; what is imported is not one's own.
        if isinstance(word, str) and (word != "plain" or isinstance(node, ast.alias)):
            yield word
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value


def named_families(part, source):
    """(line, word) of every name and string in code that names a family; no docstrings."""
    tree = ast.parse(source)
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if id(node) in docstrings:
            continue
        for word in words(node):
            if NAMES.search(CONFIG.sub("", word) if part == "cli" else word):
                yield node.lineno, word


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_family_is_named_outside_of_its_own_folder(path):
    part = path.relative_to(PACKAGE).parts[0]
    assert list(named_families(part, path.read_text())) == []


@pytest.mark.parametrize(
    "part,source",
    [
        ("training", "if name == 'urnet': pass"),
        ("training", "x = 1\nmessage = f'{x} blocks of URNet'"),
        ("evaluation", "isinstance(network, URNet)"),
        ("evaluation", "title = families['plain']"),
        ("inference", "from jax_elastic.elastic.plain import classification"),
        ("inference", "from jax_elastic.elastic import plain"),
        ("inference", "import jax_elastic.elastic.plain as backbone"),
        ("training", "network = Plain(backbone)"),
        ("data", "def for_sgad(images): pass"),
        ("data", "build(resizable=True)"),
        ("training", "DEFAULT_CONFIG = 'configs/urnet_digits.py'"),
        ("cli", "DEFAULT = 'urnet'"),
        ("cli", "text = 'IS-ResNeXt'"),
        ("evaluation", "axis == 'adapt'"),
    ],
)
def test_a_family_that_is_named_in_code_is_found(part, source):
    assert len(list(named_families(part, source))) == 1


@pytest.mark.parametrize(
    "part,source",
    [
        ("training", '"""As in URNet."""\n# SGAD too\ndef f():\n    """Plain."""'),
        ("cli", "DEFAULT_CONFIG = 'configs/urnet_digits.py'"),
        ("cli", "text = 'for example --config=configs/urnet_digits.py'"),
        ("cli", "text = 'with --config=configs/FILE.py:resnet50,adapt'"),
        ("training", "plain = describe(value)\nrows(explain=plain)"),
    ],
)
def test_what_names_no_family_in_code_is_not_reported(part, source):
    assert list(named_families(part, source)) == []
