"""Commands for people with a model and no pipeline. Nothing here imports PyTorch before it is needed."""
