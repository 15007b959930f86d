"""Pictures on their way from a source to the training loop."""
