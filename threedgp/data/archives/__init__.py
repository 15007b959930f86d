"""Readers of the containers that images come in: folders, archives, Parquet files, LMDBs. They know no data set."""
