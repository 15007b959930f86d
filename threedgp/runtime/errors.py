"""Errors that a person can act on."""

from __future__ import annotations


class UserError(Exception):
    """One clear sentence that names the file, key or value and says what to do.

    Commands print it without a traceback and exit with code 2.
    """
