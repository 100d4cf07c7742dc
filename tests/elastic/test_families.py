"""What every family must keep to, beside the laws that have files of their own."""

import families
import pytest

from jax_elastic.elastic.registry import FAMILIES


def test_every_family_has_a_small_network_that_the_laws_are_tested_with():
    classes = {name: type(network) for name, network in families.SMALL.items()}
    assert classes == FAMILIES


@pytest.mark.parametrize("name", families.ALL)
def test_the_reference_of_a_network_is_of_the_same_family(name):
    network = families.ALL[name]
    reference = network.reference()
    assert type(reference) is type(network)
    assert list(reference.subnets) == list(network.subnets)


@pytest.mark.parametrize("name", families.ALL)
def test_a_report_shows_points_of_the_network_and_the_fullest_last(name):
    network = families.ALL[name]
    assert set(network.shown) <= set(network.subnets)
    assert network.shown[-1] == network.subnets.fullest


@pytest.mark.parametrize("name", families.ALL)
def test_a_reference_is_its_own_reference(name):
    reference = families.ALL[name].reference()
    assert reference.reference() == reference
