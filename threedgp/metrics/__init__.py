"""Measures of pictures, depth and cameras: one file a metric. They take arrays or iterables, and know no data set."""
