"""Engines: what runs a trained network, segment by segment."""
