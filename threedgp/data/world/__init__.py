"""The procedural world: toy animals in a landscape, ray-cast with true depth, normals, mask and camera."""
