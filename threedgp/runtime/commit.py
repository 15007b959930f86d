"""The commit of the code that runs."""

from __future__ import annotations

import subprocess

CODE = ("stages", "threedgp", "dvc.yaml")
"""Paths whose changes `git_commit` reports."""


def git_commit() -> str | None:
    """The commit of the working directory, marked if its code has changes; None outside of a repository."""

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        commit = git("rev-parse", "--short=12", "HEAD")
        return f"{commit}, with changes" if git("status", "--porcelain", "--", *CODE) else commit
    except (OSError, subprocess.SubprocessError):
        return None
