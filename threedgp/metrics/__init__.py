"""Metrics: mathematics alone, arrays in and numbers out. One file per metric; the file name is the registered name."""
