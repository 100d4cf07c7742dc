"""Anytime networks: nested sub-networks of one set of weights, each with an answer of its own.

References:
  Anytime Neural Prediction via Slicing Networks Vertically (2018); docs/choices.md tells what the
  paper leaves open and what is done here.
"""
