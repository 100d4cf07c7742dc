"""The documents: what code cites of them is there, and what they link to, too."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
FOLDERS = ("jax_elastic", "configs", "benchmarks", "tests")
SOURCES = sorted(path for folder in FOLDERS for path in (REPOSITORY / folder).rglob("*.py"))
CHOICES = REPOSITORY / "docs" / "choices.md"
DOCUMENTS = [
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted((REPOSITORY / "docs").glob("*.md")),
]

# A citation names entries by number, on one line: "docs/choices.md B2, U1".
CITED = re.compile(r"docs/choices\.md ([A-Z]\d+(?:, [A-Z]\d+)*)")
NUMBER = re.compile(r"\b[A-Z]\d+\b")
ENTRY = re.compile(r"^### ([A-Z]\d+) \S", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def cited(text):
    """The entries that a source cites."""
    return [number for entries in CITED.findall(text) for number in entries.split(", ")]


def linked_files(text):
    """The targets of a document's relative links, without their anchors."""
    targets = [target.partition("#")[0] for target in LINK.findall(text) if "://" not in target]
    return [target for target in targets if target]


CITING = [path for path in SOURCES if cited(path.read_text())]


@pytest.mark.parametrize("path", CITING, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_every_choice_that_code_cites_has_an_entry(path):
    entries = ENTRY.findall(CHOICES.read_text())

    assert [number for number in cited(path.read_text()) if number not in entries] == []


def test_choices_have_one_number_each_and_name_only_each_other():
    page = CHOICES.read_text()
    entries = ENTRY.findall(page)

    assert len(entries) == len(set(entries))
    assert set(NUMBER.findall(page)) == set(entries)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_every_relative_link_of_a_document_leads_to_a_file(path):
    targets = linked_files(path.read_text())

    assert [target for target in targets if not (path.parent / target).exists()] == []


def test_links_and_citations_are_found():
    text = "[a](docs/a.md#b) ![c](d.png) [e](https://f.g/h) [i](#j), docs/choices.md B1, U2: k"

    assert linked_files(text) == ["docs/a.md", "d.png"]
    assert cited(text) == ["B1", "U2"]
