"""Errors of the system as sentences."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest
import torch

from threedgp.runtime.errors import UserError, explained

HUGE = 2**46
MEMORY = "there is too little memory; lower --size, or close other programs, and run the same command again."


def wrapped() -> None:
    try:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
    except OSError as error:
        raise RuntimeError("while serializing") from error


def refuse() -> None:
    raise PermissionError(errno.EACCES, "Permission denied", "results")


def read_only() -> None:
    raise OSError(errno.EROFS, "Read-only file system", "results")


def long_name() -> None:
    Path("x" * 300).stat()


def gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.mark.parametrize(
    ("cause", "sentence"),
    [
        (lambda: torch.empty(HUGE), MEMORY),
        (lambda: np.empty(HUGE), MEMORY),
        (lambda: pa.allocate_buffer(HUGE * 8), MEMORY),
        (lambda: bytearray(HUGE * 8), MEMORY),
        (lambda: cv2.resize(np.zeros((1, 1)), (2**30, 2**30)), MEMORY),
        (gpu, MEMORY),
        (wrapped, "the disk is full; free some space and run the same command again, it continues from here."),
        (read_only, "results: Read-only file system; make it accessible and run the same command again."),
        (long_name, f"{'x' * 300}: File name too long; choose a shorter path."),
        (refuse, "results: Permission denied; make it accessible and run the same command again."),
    ],
)
def test_errors_of_the_system_are_sentences(cause: Callable[[], object], sentence: str) -> None:
    with pytest.raises(Exception) as caught:
        cause()
    assert str(explained(caught.value, "--size")) == sentence


def test_defects_are_not_explained() -> None:
    assert explained(KeyError("x")) is None
    error = UserError("x: is missing; write it.")
    assert explained(error) is error
