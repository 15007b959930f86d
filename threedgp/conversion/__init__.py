"""Published snapshots of 3DGP and EpiGRAF, as model folders of ours. No stage depends on it."""
