"""Readers of what pictures come in: archives, listings, Parquet files, LMDBs. They know no data set."""
