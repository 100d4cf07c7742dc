"""URNet: a gate per residual block under the user's budget; its variants, ablations and baselines.

References:
  URNet: User-Resizable Residual Networks with Conditional Gating Module (AAAI 2020);
  docs/choices.md tells what the paper leaves open and what is done here.
"""
