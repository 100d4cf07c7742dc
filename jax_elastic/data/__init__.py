"""Image classification sets from TFDS as arrays, and the batches made from them."""
