"""Errors that a user can act on."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

FULL_DISK = "the disk is full; free some space and run the same command again, it continues from here."
OUT_OF_MEMORY = (os.strerror(errno.ENOMEM), "out of memory", "Insufficient memory", "ALLOC_FAILED")
"""In the messages of PyTorch on CPUs, of CUDA, OpenCV, and cuBLAS."""


class UserError(Exception):
    """An error whose message is one sentence that names the file, key or value and says what to do.

    Commands print it without a traceback and exit with code 2.
    """


def explained(error: Exception, lower: str = "") -> UserError | None:
    """`error` as one that a user can act on; None if it is a defect.

    Args:
        lower: settings or options that determine how much memory is needed.
    """
    if isinstance(error, UserError):
        return error
    if disk_is_full(error):
        return UserError(FULL_DISK)
    if memory_ran_out(error):
        killed = f" ({error})" if type(error) is MemoryError and error.args else ""
        advice = f"lower {lower}, or close other programs" if lower else "close other programs"
        return UserError(f"there is too little memory{killed}; {advice}, and run the same command again.")
    if isinstance(error, PermissionError) or getattr(error, "errno", None) == errno.EROFS:
        return UserError(f"{error.filename}: {error.strerror}; make it accessible and run the same command again.")
    if getattr(error, "errno", None) == errno.ENAMETOOLONG:
        return UserError(f"{error.filename}: {error.strerror}; choose a shorter path.")
    return None


def disk_is_full(error: Exception) -> bool:
    """Whether `error`, or an error during whose handling it was raised, is that of a full disk."""
    # Some writers (safetensors, torch) wrap the operating system's error in their own.
    return any(
        getattr(cause, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or os.strerror(errno.ENOSPC) in str(cause)
        for cause in _causes(error)
    )


def memory_ran_out(error: Exception) -> bool:
    """Whether `error`, or an error during whose handling it was raised, says that there is too little memory."""
    return any(
        isinstance(cause, MemoryError)
        or getattr(cause, "errno", None) == errno.ENOMEM
        or any(words in str(cause) for words in OUT_OF_MEMORY)
        for cause in _causes(error)
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
