"""Where images come from: one file a source, all behind `base.Source`."""
