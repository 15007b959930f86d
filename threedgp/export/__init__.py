"""Scenes in the formats of other programs: cameras with images, points, Gaussians, textured meshes."""
