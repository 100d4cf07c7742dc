"""SGAD: residual blocks dropped by a plan that is made of the stem's output, guided by difficulty.

References:
  SGAD: Soft-Guided Adaptively-Dropped Neural Network (2018);
  docs/choices.md tells what the paper leaves open and what is done here.
"""
