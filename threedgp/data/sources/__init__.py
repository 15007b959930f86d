"""Where images come from: one file per source, each with a `threedgp.data.source.SourceKind`."""
