"""Errors that a user can act on."""

from __future__ import annotations


class UserError(Exception):
    """An error whose message is one sentence that names the file, key or value and says what to do.

    Commands print it without a traceback and exit with code 2.
    """
