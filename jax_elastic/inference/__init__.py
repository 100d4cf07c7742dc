"""Engines that really skip, and what is made from a trained network."""
