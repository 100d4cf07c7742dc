import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jax_elastic.data.split import held_out


@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=60),
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_every_class_gives_its_rounded_share(labels, share, seed):
    labels = np.array(labels)
    order = np.random.default_rng(seed).permutation(len(labels))

    mask = held_out(labels, share, order)

    sizes = np.bincount(labels)
    expected = [round(share * size) for size in sizes.tolist()]
    assert np.bincount(labels[mask], minlength=len(sizes)).tolist() == expected


def test_the_images_that_come_first_in_the_order_are_held_out():
    labels = np.array([0, 0, 1, 1])
    mask = held_out(labels, 0.5, np.array([3, 1, 0, 2]))
    assert np.flatnonzero(mask).tolist() == [1, 3]
