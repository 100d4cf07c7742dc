"""Accuracy, usage and MACs per operating point."""
