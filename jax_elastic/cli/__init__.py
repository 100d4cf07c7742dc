"""Flags to a config to one call into the package."""
