"""Seals: every change of a file, and of the seal itself, is seen."""

import hashlib

import pytest

from jax_elastic.training.seal import SEAL, changes, read_seal, seal


@pytest.fixture
def sealed(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "first").write_bytes(b"one")
    (tmp_path / "folder" / "second").write_bytes(b"two")
    seal(tmp_path)
    return tmp_path


def test_a_seal_has_the_form_of_sha256sum(sealed):
    one, two = (hashlib.sha256(data).hexdigest() for data in (b"one", b"two"))
    *lines, comment = (sealed / SEAL).read_text().splitlines()
    assert lines == [f"{one}  first", f"{two}  folder/second"]
    assert comment.startswith("# ")
    assert read_seal(sealed) == {"first": one, "folder/second": two}


def test_what_was_sealed_has_no_changes(sealed):
    assert changes(sealed, read_seal(sealed)) == []


def test_without_a_seal_nothing_is_known(tmp_path):
    assert read_seal(tmp_path) == {}


def test_a_changed_a_missing_and_a_replaced_file_are_named(sealed):
    (sealed / "first").write_bytes(b"onE")
    assert changes(sealed, read_seal(sealed)) == ["first has changed"]
    (sealed / "first").unlink()
    (sealed / "folder" / "second").unlink()
    (sealed / "folder" / "second").mkdir()
    assert changes(sealed, read_seal(sealed)) == ["first is missing", "folder/second is missing"]


def test_a_file_that_was_added_is_no_change(sealed):
    (sealed / "folder" / ".DS_Store").write_bytes(b"from a file browser")
    assert changes(sealed, read_seal(sealed)) == []


def flips(data):
    """The data with one bit flipped, at every place."""
    for i in range(len(data)):
        yield data[:i] + bytes([data[i] ^ 1 << i % 8]) + data[i + 1 :]


def starts(data):
    """The data cut off, at every place."""
    return (data[:length] for length in range(len(data)))


@pytest.mark.parametrize("harm", [flips, starts])
def test_a_seal_that_is_harmed_itself_is_refused(sealed, harm):
    path = sealed / SEAL

    def is_refused(data):
        path.write_bytes(data)
        try:
            read_seal(sealed)
        except ValueError as error:
            return str(error) == f"{SEAL} has changed"
        return False

    assert all(is_refused(data) for data in harm(path.read_bytes()))
