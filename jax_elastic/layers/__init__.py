"""Flax layers that all networks share."""
