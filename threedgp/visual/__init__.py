"""Image grids, videos, meshes, the interactive viewer and the report."""
