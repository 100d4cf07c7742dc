"""Plain networks, nothing elastic."""
