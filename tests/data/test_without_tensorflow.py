import importlib.util

import pytest
from tensorflow_datasets.core.utils.lazy_imports_utils import tensorflow

from jax_elastic.data.without_tensorflow import able_to_prepare


@pytest.fixture
def not_installed(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


def test_the_stand_in_is_taken_away_also_after_a_failure(not_installed):
    with pytest.raises(RuntimeError), able_to_prepare():
        assert "encode_png" in vars(tensorflow.image)
        raise RuntimeError

    assert "_module" not in vars(tensorflow)


def test_an_installed_tensorflow_is_left_alone(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    before = dict(vars(tensorflow))

    with able_to_prepare():
        assert vars(tensorflow) == before
