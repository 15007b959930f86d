"""`benchmarks/gpu.py` loses nothing where one of its steps crashes, hangs or writes half a row."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from training.worlds import make_batch, make_trainer, tiny_config


@pytest.fixture
def benchmark(root: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Loads a script of the folder `benchmarks`, whose modules import each other."""

    def load(name: str) -> ModuleType:
        monkeypatch.syspath_prepend(str(root / "benchmarks"))
        spec = importlib.util.spec_from_file_location(f"benchmark_{name}", root / "benchmarks" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def gpu(benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark("gpu")


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
        step("writing", f"open({str(tmp_path / 'kernels-float32.jsonl')!r}, 'w').write({content!r})"),
    ]
    together = [step("first", "print(1)"), step("second", "raise SystemExit(3)")]
    monkeypatch.setattr(gpu, "checks", lambda *_: iter(together))
    monkeypatch.setattr(gpu, "steps", lambda *_: iter(planned))
    monkeypatch.setattr(gpu, "learning", lambda *_: [sys.executable, "-c", "print('trained')"])
    monkeypatch.setattr(gpu, "describe", lambda device: {"device": "a GPU"})
    monkeypatch.setattr(gpu, "RESERVE", 2.0)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--minutes", "5", "--out", str(tmp_path)])
    gpu.main()
    ended = {one["step"]: one["ended"] for one in json.loads((tmp_path / "gpu.json").read_text())["steps"]}
    assert ended.pop("crashing").startswith("code ") and (ended.pop("first"), ended.pop("second")) == ("ok", "code 3")
    assert ended == {"hanging": "stopped at its limit", "writing": "ok", "data": "ok", "learn": "ok"}
    assert "trained" in (tmp_path / "learn.log").read_text()
    page = (tmp_path / "gpu.md").read_text()
    assert "- device: a GPU" in page and "1 of 2 cases agree" in page and "CompilationError: no" in page
    assert "| hanging | stopped at its limit |" in page


def test_page_of_measurements(gpu: ModuleType, tmp_path: Path) -> None:
    def write(name: str, *rows: dict[str, Any]) -> None:
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    run = {"forward": {"median_ms": 2.0}, "both": {"median_ms": 8.0}, "forward_peak_mb": 5.0, "both_peak_mb": 30.0}
    rates = {"forward_tflop_s": 20.0, "both_tflop_s": 30.0, "forward_tb_s": 1.0, "both_tb_s": 2.0}
    limits = {"copy_tb_s": 4.0, "matrix_tflop_s": 200.0}
    write(
        "render.jsonl",
        {"workload": "published", "dtype": "float32", "naive_compiled": run, "triton": run, "triton_rates": rates,
         "limits": limits, "lightplane": "not compared: No module named 'lightplane'"},
    )  # fmt: skip
    step = {"preset": "imagenet", "precision": "bf16", "compile": True, "recompute": False, "batch_size": 96}
    write("steps.jsonl", {**step, "images_per_second": {"ours": 200.0}, "days": 1.447, "peak_bytes": 120e9})
    found = {"step_ms": 50.0, "gaps_ms": 4.0, "launches": 4000.0, "long_gaps": 12.0, "longest_gap_ms": 0.5}
    write("profile.jsonl", {**step, "profile": {**found, "largest": [{"name": "conv", "ms": 9.0, "calls": 30.0}]}})
    page = gpu.page(tmp_path, {"device": "a GPU"}, [])
    assert "| naive_compiled | 2.00 | 8.00 | 30 |" in page
    assert "| triton | 20 (10%) | 30 (15%) | 1 (25%) | 2 (50%) |" in page
    assert "- Lightplane: not compared: No module named 'lightplane'" in page
    assert "| imagenet | bf16 | compile | 96 | 200.0 | 1.45 | 120.0 |" in page
    assert "imagenet, bf16 compile, batch 96: 50.0 ms a step" in page and "12 gaps of more than 20 micro" in page
    assert "| `conv` | 9.00 | 30 |" in page


def test_gaps_between_kernels(benchmark: Callable[[str], ModuleType]) -> None:
    """Kernels may overlap, on several streams, and come in any order."""
    busy_and_gaps = benchmark("train_step").busy_and_gaps
    assert busy_and_gaps([(20.0, 30.0), (0.0, 4.0), (2.0, 10.0), (3.0, 5.0), (31.0, 32.0)]) == (21.0, [10.0, 1.0])
    assert busy_and_gaps([]) == (0.0, [])


def test_naive_step_is_the_same_step(benchmark: Callable[[str], ModuleType]) -> None:
    noise = {"start": 0.0, "end": 0.0, "over": "100%"}
    config = tiny_config(train={"density_noise": noise, "r1_interval": 1})
    naive = benchmark("naive_step").make_naive(make_trainer(config))
    expected, found = make_trainer(config).step(make_batch(0)), naive.step(make_batch(0))
    for name, value in expected.items():  # sums of float32 in another order
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4, msg=name)


def test_lightplane_gets_what_its_documentation_asks_for(
    benchmark: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for the package, which is on no registry: coordinates of the points and texels that they read."""
    render = benchmark("render")
    work = render.Workload(images=2, side=4, coarse=8, fine=8, plane=6, channels=16, hidden=16)
    scene = render.first_pass(render.make_scene(work, "cpu", torch.float32))
    assert scene.randomness.fine.shape == (2, 16, 0)
    seen = SimpleNamespace()

    def init_decoder_params(device: torch.device, **sizes: int) -> SimpleNamespace:
        seen.sizes = sizes
        return SimpleNamespace(mlp_params=torch.zeros(100, device=device))

    def lightplane_renderer(rays: Any, grid: Any, decoder: Any, num_samples: int, gain: float) -> Any:
        seen.rays, seen.grid, seen.num_samples = rays, grid, num_samples
        color = sum(plane.sum() for plane in grid) + decoder.mlp_params.sum() + rays.directions.sum()
        depth = rays.near + color
        return depth, depth, color.expand(len(rays.origins), 3)

    utils = SimpleNamespace(init_decoder_params=init_decoder_params)
    package = SimpleNamespace(Rays=SimpleNamespace, lightplane_renderer=lightplane_renderer, mlp_utils=utils)
    monkeypatch.setitem(sys.modules, "lightplane", package)
    monkeypatch.setitem(sys.modules, "lightplane.mlp_utils", utils)
    forward, both, leaves = render.lightplane_runs(scene, work)
    forward(), both()
    assert [tuple(plane.shape) for plane in seen.grid] == [(2, 1, 6, 6, 16), (2, 6, 1, 6, 16), (2, 6, 6, 1, 16)]
    planes = scene.image.unflatten(-1, (3, 16))
    # A point reads [z, y, x]: planes xy, xz and yz; rows of ours are the second axis of each pair.
    assert torch.equal(seen.grid[0][1, 0, 2, 3], planes[1, 2, 3, 0])
    assert torch.equal(seen.grid[1][1, 2, 0, 3], planes[1, 2, 3, 1])
    assert torch.equal(seen.grid[2][1, 2, 3, 0], planes[1, 2, 3, 2])
    assert torch.allclose(seen.rays.origins[16:] * 0.5, scene.origins[1]) and seen.num_samples == 8
    assert seen.rays.grid_idx.tolist() == [0] * 16 + [1] * 16 and seen.rays.encoding.shape == (32, 16)
    assert seen.sizes["input_chn"] == seen.sizes["hidden_chn"] == 16
    assert all(leaf.grad is not None for leaf in leaves if leaf is not leaves[-2])
