"""Downloads: data sets, lists of images, and weights."""
