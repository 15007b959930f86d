"""`train.compile`: the same numbers, the same names, and a clear error where nothing can be compiled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from threedgp.runtime.errors import UserError
from threedgp.training.step import Trainer
from training.worlds import make_batch, make_trainer, tiny_config


@pytest.fixture(autouse=True)
def _fresh() -> None:
    torch._dynamo.reset()
    counters.clear()


def _compile_with(monkeypatch: pytest.MonkeyPatch, backend: Any) -> None:
    original = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda module, **options: original(module, backend=backend, **options))


def _trained(compiled: bool, steps: int, dtype: torch.dtype, **changes: Any) -> tuple[Trainer, list[dict[str, float]]]:
    changes["train"] = {"r1_interval": 2, "compile": compiled} | changes.get("train", {})
    trainer = make_trainer(tiny_config(**changes), dtype=dtype)
    curves = [trainer.step(make_batch(trainer.images)) for _ in range(steps)]
    return trainer, [{name: value.item() for name, value in stats.items()} for stats in curves]


def _assert_equal_training(
    changes: dict[str, Any], steps: int, tolerance: float, dtype: torch.dtype = torch.float32
) -> None:
    """Losses, and the weights of both networks; `tolerance` is relative for scalars, and for weights the share of the
    distance that they have moved."""
    start = make_trainer(tiny_config(**changes), dtype=dtype)
    (eager, expected), (compiled, found) = (_trained(value, steps, dtype, **changes) for value in (False, True))
    for one, other in zip(expected, found, strict=True):
        assert other == pytest.approx(one, rel=tolerance, abs=tolerance)
    for name in ("generator", "discriminator", "average"):
        first, second, third = (getattr(one, name).state_dict() for one in (start, eager, compiled))
        assert list(third) == list(second)
        moved = sum((second[key] - first[key]).square().sum() for key in second).sqrt()
        apart = sum((second[key] - third[key]).square().sum() for key in second).sqrt()
        assert moved > 0 and apart <= tolerance * moved, (name, apart / moved)


@pytest.mark.parametrize(
    "changes",
    [{}, {"model": {"recompute": True}, "train": {"loss": "relativistic", "accumulation": 2}}],
    ids=["logistic", "recompute"],
)
def test_same_numbers_without_code_generation(changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """With the graphs that are compiled, forward and backward, run by PyTorch's operators; R1 comes twice.

    In float64: the sums of the resampling filter have another order, and Adam's first steps are as long for gradients
    that are mostly rounding as for others.
    """
    _compile_with(monkeypatch, "aot_eager")
    _assert_equal_training(changes, 3, 1e-6, torch.float64)
    assert counters["stats"]["unique_graphs"] > 0
    assert not counters["graph_break"]


def test_same_losses_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    _compile_with(monkeypatch, "aot_eager")
    changes = {"model": {"recompute": True}, "train": {"loss": "relativistic", "precision": "bf16", "accumulation": 2}}
    (_, (expected,)), (_, (found,)) = (_trained(value, 1, torch.float32, **changes) for value in (False, True))
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-4)


@pytest.mark.slow
def test_same_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With generated code, whose sums have another order."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    _assert_equal_training({}, 3, 1e-3)


def test_checkpoints_fit_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    _compile_with(monkeypatch, "eager")
    compiled, plain = (make_trainer(tiny_config(train={"compile": value})) for value in (True, False))
    compiled.step(make_batch(0))
    plain.load_state_dict(compiled.state_dict())
    assert not [name for name in plain.generator.state_dict() if "_orig_mod" in name]
    compiled.load_state_dict(plain.state_dict())
    assert compiled.images == plain.images == 4


def test_failure_names_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_a_compiler(*_: Any) -> Any:
        raise RuntimeError("no C++ compiler was found")

    _compile_with(monkeypatch, without_a_compiler)
    with pytest.raises(UserError, match=r"train\.compile: .*no C\+\+ compiler was found.* set it to false"):
        make_trainer(tiny_config(train={"compile": True})).step(make_batch(0))
