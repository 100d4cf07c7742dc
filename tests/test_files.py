"""A file is replaced whole or left as it was."""

import os
from pathlib import Path

import pytest

from jax_elastic.files import replace_file


def test_a_file_and_its_folders_are_made(tmp_path):
    path = replace_file(tmp_path / "a" / "b.json", b"new")
    assert path == tmp_path / "a" / "b.json"
    assert path.read_bytes() == b"new"


def test_a_path_may_be_a_string(tmp_path):
    assert replace_file(str(tmp_path / "b"), b"").read_bytes() == b""


def test_an_old_file_is_replaced_and_nothing_is_left_beside_it(tmp_path):
    (tmp_path / "b").write_bytes(b"a longer old text")
    replace_file(tmp_path / "b", b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("b", b"new")]


def test_a_reader_who_opened_the_old_file_goes_on_reading_it(tmp_path):
    (tmp_path / "b").write_bytes(b"old")
    with (tmp_path / "b").open("rb") as reader:
        replace_file(tmp_path / "b", b"new")
        assert reader.read() == b"old"


@pytest.mark.parametrize("failing", ["write_bytes", "replace"])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, failing):
    (tmp_path / "b").write_bytes(b"old")

    def fail(self, *args):
        if failing == "write_bytes":
            os.close(os.open(self, os.O_CREAT))  # the disk filled up half-way
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, failing, fail)
        with pytest.raises(OSError, match="no space"):
            replace_file(tmp_path / "b", b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("b", b"old")]
