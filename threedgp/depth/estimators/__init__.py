"""Depth estimators, one file each; the file name is a value of `depth.estimator`. Files with `_` hold shared code."""
