"""What people look at: grids, view strips, camera flights, meshes, the report."""
