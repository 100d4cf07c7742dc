"""URNet: a gate per residual block under the user's budget; its variants, ablations and baselines.

References:
  URNet: User-Resizable Residual Networks with Conditional Gating Module (AAAI 2020);
  SPEC section 2. Choices where the paper is silent are marked there with [C].
"""
