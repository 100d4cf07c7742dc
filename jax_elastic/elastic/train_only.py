"""Parts of a network that only teach it: no segment takes them, and what is served has none.

They lie under one name of the variables, so that whatever saves or loads a network for inference
can leave them out without knowing the family.
"""

from typing import Any, cast

from jax_elastic.elastic.family import Variables

TRAIN_ONLY = "train_only"
"""Their place among a network's `params` and `stats`."""


def without_train_only(variables: Variables) -> Variables:
    """What of a network's variables is needed to run it; the same arrays, none of them copied."""
    found: dict[str, dict[str, Any]] = {
        collection: {name: part for name, part in tree.items() if name != TRAIN_ONLY}
        for collection, tree in cast(dict[str, dict[str, Any]], variables).items()
    }
    return cast(Variables, found)
