"""Depth estimators: one file each."""
