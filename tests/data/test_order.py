import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jax_elastic.data.datasets import Dataset
from jax_elastic.data.order import batch_ids, padded_batches


@given(
    seed=st.integers(0, 2**32),
    phase=st.integers(0, 3),
    size=st.integers(1, 40),
    batch_size=st.integers(1, 90),
)
def test_every_epoch_has_each_image_exactly_once(seed, phase, size, batch_size):
    epochs = 3
    steps = -(-epochs * size // batch_size)

    stream = np.concatenate(
        [batch_ids(seed, phase, step, size, batch_size) for step in range(steps)]
    )

    for epoch in stream[: epochs * size].reshape(epochs, size):
        np.testing.assert_array_equal(np.sort(epoch), np.arange(size))


@given(seed=st.integers(0, 99), size=st.integers(1, 40), step=st.integers(0, 9))
def test_a_batch_of_two_steps_is_the_two_batches(seed, size, step):
    halves = [batch_ids(seed, 0, 2 * step + half, size, 7) for half in range(2)]
    np.testing.assert_array_equal(batch_ids(seed, 0, step, size, 14), np.concatenate(halves))


def test_ids_are_int32():
    assert batch_ids(0, 0, 0, 10, 4).dtype == np.int32


@pytest.mark.parametrize("other", [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_seeds_phases_and_epochs_have_orders_of_their_own(other):
    # One step is one epoch here.
    assert (batch_ids(*other, 50, 50) != batch_ids(0, 0, 0, 50, 50)).any()


def test_changing_a_batch_does_not_change_the_next_draw_of_it():
    batch_ids(0, 0, 0, 10, 10)[:] = 0
    np.testing.assert_array_equal(np.sort(batch_ids(0, 0, 0, 10, 10)), np.arange(10))


def dataset(size):
    images = np.arange(1, size + 1, dtype=np.uint8)[:, None, None, None] * np.ones(
        (1, 2, 3, 1), np.uint8
    )
    labels = np.stack([np.arange(size), np.arange(size) // 2], axis=1).astype(np.int32)
    return Dataset("numbers", images, labels, (size, size), tuple(map(str, range(size))))


@given(size=st.integers(1, 30), batch_size=st.integers(1, 40))
def test_padded_batches_drop_nothing_and_mask_what_they_add(size, batch_size):
    numbers = dataset(size)
    batches = list(padded_batches(numbers, batch_size))

    joined = {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}
    assert joined["mask"].tolist() == [1.0] * size + [0.0] * (len(joined["mask"]) - size)
    np.testing.assert_array_equal(joined["image"][:size], numbers.images)
    np.testing.assert_array_equal(joined["labels"][:size], numbers.labels)
    assert not joined["image"][size:].any()
    assert not joined["labels"][size:].any()


def test_padded_batches_all_have_one_shape_and_type():
    described = {
        tuple((key, value.shape, value.dtype.name) for key, value in batch.items())
        for batch in padded_batches(dataset(5), 2)
    }
    assert described == {
        (("image", (2, 2, 3, 1), "uint8"), ("labels", (2, 2), "int32"), ("mask", (2,), "float32"))
    }
