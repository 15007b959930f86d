"""How a model is measured: sets of images, their features, the metrics on them, and the controls beside them."""
