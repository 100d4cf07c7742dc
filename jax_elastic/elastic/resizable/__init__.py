"""Resizable networks: one set of weights that runs with its maps at many sizes, stage by stage."""
