"""The data path from sources to training batches."""
