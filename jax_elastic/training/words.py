"""The words that choose a variant: those after the colon in ``--config=FILE.py:110,base``."""

from jax_elastic.errors import UsageError


def choose(variant: str, *groups: tuple[str, ...]) -> tuple[str, ...]:
    """Picks one word of each group.

    Args:
      variant: words separated by commas, in any order; may be empty.
      groups: the words that exclude each other, the default first.

    Returns:
      For each group its word in `variant`, or its default.

    Raises:
      UsageError: a word of no group, or two of one.
    """
    chosen = [group[0] for group in groups]
    given: dict[int, str] = {}
    for word in filter(None, variant.split(",")):
        found = [i for i, group in enumerate(groups) if word in group]
        if not found:
            allowed = "one of each: " + "; ".join(", ".join(group) for group in groups)
            raise UsageError(f"unknown variant {word!r}", allowed if groups else "there are none")
        if found[0] in given:
            raise UsageError(f"variants {given[found[0]]!r} and {word!r} exclude each other")
        given[found[0]] = word
        chosen[found[0]] = word
    return tuple(chosen)
