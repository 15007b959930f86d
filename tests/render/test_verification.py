"""`backend="auto"` compares kernels with PyTorch's operators first: wrong and failing ones are not used."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from render.kernel_checks import FieldCase, field_inputs, needs_compiler

from threedgp.render import RaySettings, composite, midpoint_randomness, render_rays, verification
from threedgp.render.native import compositing as native_compositing
from threedgp.render.native import field as native_field
from threedgp.render.verification import Case, compare, problem

pytestmark = needs_compiler

CASES = [Case("native", "field", "cpu", "float32", 8, 20), Case("native", "compositing", "cpu")]


@pytest.fixture(autouse=True)
def verdicts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """The folder of verdicts: empty, as on the first use on a machine."""
    monkeypatch.setattr(verification, "cache_folder", lambda: tmp_path)
    problem.cache_clear()
    yield tmp_path / "verdicts"
    problem.cache_clear()


def rendered(backend: str) -> list[torch.Tensor]:
    """Image and gradient of the planes."""
    planes, decoder, origins, directions, *_ = field_inputs(FieldCase(spread=0.2), "cpu")
    rays = (planes.requires_grad_(), decoder, origins, directions, midpoint_randomness(2, 5, 6, 7, origins))
    seen = render_rays(*rays, RaySettings(0.2, 0.9, 0.5), backend=backend)
    return [seen.rgb.detach(), torch.autograd.grad(seen.rgb.square().sum(), planes)[0]]


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.operator)
def test_kernels_that_agree_are_used_without_a_warning(case: Case, recwarn: pytest.WarningsRecorder) -> None:
    assert max(verification.errors(case).values()) < 1e-5
    assert problem(case) is None
    assert same(rendered("auto"), rendered("native"))
    assert not recwarn.list


def wrong_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    real = native_field.field_backward

    def backward(*arguments: object) -> object:
        planes, *others = real(*arguments)
        return [None if planes is None else planes * 1.5, *others]

    monkeypatch.setattr(native_field, "field_backward", backward)


def wrong_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    real = native_compositing.composite_forward

    def forward(*arguments: object) -> object:
        rgb, depth, *rest = real(*arguments)
        return rgb, depth * float("nan"), *rest

    monkeypatch.setattr(native_compositing, "composite_forward", forward)


def failing_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(*_: object) -> object:
        raise RuntimeError("out of resource: shared memory, Required: 300000, Hardware limit: 232448")

    monkeypatch.setattr(native_field, "field_forward", forward)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (wrong_gradient, "the gradient of planes differs by 0.5, at most 0.0001 is expected"),
        (wrong_depth, "depth differs by inf"),
        (failing_kernel, "RuntimeError: out of resource: shared memory, Required: 300000"),
    ],
)
def test_other_kernels_are_replaced_after_one_warning(
    damage: object, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = rendered("torch")
    damage(monkeypatch)
    with pytest.warns(RuntimeWarning) as caught:
        first, second = rendered("auto"), rendered("auto")
    (warning,) = caught
    assert sentence in str(warning.message)
    for seen in (first, second):
        # Where one operator is replaced, the other one is still fused.
        assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-5) for a, b in zip(seen, expected, strict=True))
    if damage is not failing_kernel:
        rendered("native")  # an explicit choice is not questioned


def test_the_verdict_is_remembered_until_the_machine_or_the_source_changes(
    monkeypatch: pytest.MonkeyPatch, verdicts: Path
) -> None:
    case, made = CASES[0], []
    monkeypatch.setattr(verification, "errors", lambda case: made.append(case) or {"the field": 0.0})
    for _ in range(2):
        problem.cache_clear()  # as in another process
        assert problem(case) is None
    assert len(made) == 1
    assert json.loads(next(verdicts.iterdir()).read_text()) == {"problem": None, **case._asdict()}
    monkeypatch.setattr(verification, "_machine", lambda case: ["another driver"])
    problem.cache_clear()
    assert problem(case) is None
    assert len(made) == 2
    monkeypatch.setattr(Path, "read_text", lambda path, real=Path.read_text: real(path) + "#" * (path.suffix == ".cpp"))
    problem.cache_clear()
    assert problem(case) is None
    assert len(made) == 3


def test_a_remembered_problem_warns_in_each_process_and_can_be_compared_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as damaged:
        failing_kernel(damaged)
        with pytest.warns(RuntimeWarning):
            problem(CASES[0])
    problem.cache_clear()
    with pytest.warns(RuntimeWarning, match="out of resource"):
        assert problem(CASES[0])
    assert compare(CASES[0]) is None
    problem.cache_clear()
    assert problem(CASES[0]) is None


def test_lack_of_memory_is_not_remembered(monkeypatch: pytest.MonkeyPatch, verdicts: Path) -> None:
    def errors(case: Case) -> dict[str, float]:
        raise torch.OutOfMemoryError("tried to allocate 2 GiB")

    monkeypatch.setattr(verification, "errors", errors)
    with pytest.warns(RuntimeWarning, match="OutOfMemoryError: tried to allocate"):
        problem(CASES[0])
    assert not verdicts.exists()


def test_a_folder_that_cannot_be_written_means_a_comparison_in_each_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(verification, "cache_folder", lambda: tmp_path / "file")
    assert problem(CASES[0]) is None


@pytest.mark.parametrize(
    "context", [torch.inference_mode, torch.no_grad, lambda: torch.autocast("cpu", torch.bfloat16)]
)
def test_the_surroundings_do_not_matter(context: object) -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        with context():
            assert problem(CASES[0]) is None
    assert torch.equal(torch.rand(1), expected)


def test_the_first_use_may_be_compiled() -> None:
    samples, distances = torch.randn(2, 3, 4, 4), torch.linspace(0, 1, 4).expand(2, 3, 4)
    compiled = torch.compile(lambda s: composite(s, distances).rgb, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(samples), composite(samples, distances, backend="native").rgb)
    assert problem.cache_info().currsize == 1
