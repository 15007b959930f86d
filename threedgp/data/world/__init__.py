"""The procedural world: textured solid objects before a background, ray-cast with true depth and camera."""
