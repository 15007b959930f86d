"""`benchmarks/gpu.py` loses nothing where one of its steps crashes, hangs or writes half a row."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def gpu(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_of_a_gpu", root / "benchmarks" / "gpu.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_a_step_that_crashes_or_hangs_stops_no_other(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(name: str, code: str, share: float = 0.9) -> object:
        return gpu.Step(name, [sys.executable, "-c", code], share)

    row = {"part": "float32", "case": "odd", "ok": True, "errors": {"out": 0.25}}
    wrong = {"part": "float32", "case": "even", "ok": False, "failed": "CompilationError: no"}
    content = json.dumps(row) + "\n" + json.dumps(wrong) + "\n" + json.dumps(row)[:10]
    planned = [
        step("crashing", "import os; os.abort()"),
        step("hanging", "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(600)", 0.02),
        step("writing", f"open({str(tmp_path / 'kernels.jsonl')!r}, 'w').write({content!r})"),
    ]
    monkeypatch.setattr(gpu, "steps", lambda *_: iter(planned))
    monkeypatch.setattr(gpu, "learning", lambda *_: [sys.executable, "-c", "print('trained')"])
    monkeypatch.setattr(gpu, "describe", lambda device: {"device": "a GPU"})
    monkeypatch.setattr(gpu, "RESERVE", 2.0)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--minutes", "5", "--out", str(tmp_path)])
    gpu.main()
    ended = {one["step"]: one["ended"] for one in json.loads((tmp_path / "gpu.json").read_text())["steps"]}
    assert ended.pop("crashing").startswith("code ")
    assert ended == {"hanging": "stopped at its limit", "writing": "ok", "data": "ok", "learn": "ok"}
    assert "trained" in (tmp_path / "learn.log").read_text()
    page = (tmp_path / "gpu.md").read_text()
    assert "- device: a GPU" in page and "1 of 2 cases agree" in page and "CompilationError: no" in page
    assert "| hanging | stopped at its limit |" in page
