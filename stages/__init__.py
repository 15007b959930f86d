"""The stages of the pipeline: one file is one DVC stage and one command, ``python -m stages.<name>``."""
