"""Features of images by frozen networks."""
