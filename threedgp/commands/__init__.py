"""Commands around the pipeline, and for a model without one. Nothing here imports PyTorch before it is needed."""
