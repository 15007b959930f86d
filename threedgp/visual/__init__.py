"""Output for people: image grids, videos, meshes, the interactive viewer and the report."""
