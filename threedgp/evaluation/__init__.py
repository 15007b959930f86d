"""How a model is measured: sets of pictures, their features, the metrics on them, and the controls beside them."""
