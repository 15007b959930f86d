"""The renderer in Triton, for GPUs."""
