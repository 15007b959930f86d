"""Loops of native code over PyTorch's threads."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest
import torch

from threedgp.render.native import threads as native_threads
from threedgp.render.native.building import compiled
from threedgp.render.native.threads import threads

SOURCE = """
#include <chrono>
#include "threads.h"

extern "C" void visit(int64_t count, int64_t* visits, const Threads* threads) {
  threads->for_each(count, [=](int64_t k) { ++visits[k]; });
}

// Whether two pieces were under way at once: each waits a while for the other.
extern "C" int32_t meet(const Threads* threads) {
  std::atomic<int> there{0}, met{0};
  threads->for_each(2, [&](int64_t) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    for (++there; there < 2 && std::chrono::steady_clock::now() < end;) {}
    if (there == 2) ++met;
  });
  return met == 2;
}
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    source = tmp_path_factory.mktemp("threads") / "threads_test.cpp"
    source.write_text(SOURCE)
    try:
        return compiled(Path(source))
    except RuntimeError as error:
        pytest.skip(str(error))


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("openmp", [True, False])
@pytest.mark.parametrize("count", [0, 1, 2, 7, 100])
def test_each_piece_is_done_once(
    two_threads: None, library: ctypes.CDLL, count: int, openmp: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not openmp:
        monkeypatch.setattr(native_threads, "_parallel", lambda: None)
    assert (threads().parallel is None) == (native_threads._parallel() is None)
    visits = torch.zeros(count + 1, dtype=torch.int64)
    library.visit(ctypes.c_int64(count), ctypes.c_void_p(visits.data_ptr()), ctypes.byref(threads()))
    assert visits.tolist() == [1] * count + [0]


def test_pieces_run_at_the_same_time(two_threads: None, library: ctypes.CDLL) -> None:
    if native_threads._parallel() is None:
        pytest.skip("PyTorch is not linked to GNU's OpenMP here")
    assert library.meet(ctypes.byref(threads()))


def test_as_many_threads_as_pytorch_uses_now() -> None:
    before = torch.get_num_threads()
    try:
        for count in (1, 3, 2):
            torch.set_num_threads(count)
            assert threads().count == count
    finally:
        torch.set_num_threads(before)
