"""bf16 where it is allowed, float32 where it matters, tf32 only when asked for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from threedgp.runtime.precision import use_precision
from threedgp.training.step import Trainer
from training.worlds import make_batch, make_trainer, tiny_config


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def _trainer(precision: str) -> Trainer:
    return make_trainer(tiny_config(train={"precision": precision}))


def _gradients(network: nn.Module) -> Tensor:
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


def test_flags() -> None:
    for precision, tf32, dtype in (("fp32", False, None), ("tf32", True, None), ("bf16", False, torch.bfloat16)):
        assert use_precision(precision) == dtype
        assert torch.backends.cudnn.allow_tf32 == tf32
        assert not torch.backends.cuda.matmul.allow_tf32  # mapping, demodulation, rays


def test_tf32_spares_r1() -> None:
    """The flag when the discriminator runs, forward and backward: fakes, both halves, and then the penalty's pass."""
    trainer = _trainer("tf32")
    seen: list[tuple[str, bool]] = []
    note = lambda when: seen.append((when, torch.backends.cudnn.allow_tf32))  # noqa: E731
    layer = trainer.discriminator.blocks[0]
    layer.register_forward_hook(lambda *_: note("forward"))
    layer.register_full_backward_hook(lambda *_: note("backward"))
    trainer.step(make_batch(0))
    assert seen[:4] == [("forward", True), ("backward", True)] * 2
    assert seen[4:] and not any(flag for _, flag in seen[4:])
    assert torch.backends.cudnn.allow_tf32


def test_activations_are_bfloat16_and_all_else_is_not() -> None:
    trainer = _trainer("bf16")
    seen: dict[str, set[torch.dtype]] = {}

    def watch(prefix: str, network: nn.Module) -> None:
        for name, module in network.named_modules():
            place = seen.setdefault(f"{prefix}.{name}", set())
            module.register_forward_hook(
                lambda _, __, out, place=place: place.update(
                    x.dtype for x in (out if isinstance(out, tuple) else (out,)) if isinstance(x, Tensor)
                )
            )

    watch("Generator", trainer.generator)
    watch("Discriminator", trainer.discriminator)
    trainer.step(make_batch(0))  # the first step has an R1 penalty, for which the discriminator runs in float32
    bf16, fp32 = torch.bfloat16, torch.float32
    assert seen["Generator.backbone.blocks.1.conv0"] == {bf16}
    assert seen["Generator.backbone.blocks.1.conv0.affine"] == {fp32}
    assert seen["Generator.backbone"] == seen["Generator.mapping"] == {fp32}
    assert seen["Generator.camera_generator"] == seen["Generator.depth_adaptor"] == {fp32}
    assert seen["Discriminator.blocks.0"] == {bf16, fp32}
    assert seen["Discriminator.style_mapping"] == {fp32}
    assert seen["Discriminator.hidden"] == seen["Discriminator."] == {fp32}
    for network in (trainer.generator, trainer.discriminator, trainer.average):
        assert {p.dtype for p in network.parameters()} == {fp32}


def test_bf16_follows_fp32() -> None:
    full, half = _trainer("fp32"), _trainer("bf16")
    expected, stats = full.step(make_batch(0)), half.step(make_batch(0))
    # bfloat16 keeps 8 bits, 0.4 %; a dozen layers add up to a few times that.
    for name in ("generator/loss", "discriminator/loss", "discriminator/distillation"):
        assert stats[name].item() == pytest.approx(expected[name].item(), rel=0.02), name
    for name in ("generator", "discriminator"):
        exact, rounded = _gradients(getattr(full, name)), _gradients(getattr(half, name))
        assert torch.cosine_similarity(exact, rounded, dim=0) > 0.99, name


def test_cameras_and_r1_do_not_change_by_a_bit() -> None:
    # Before the discriminator's first update R1 depends on the real images alone, the cameras on no convolution.
    expected, stats = (_trainer(precision).step(make_batch(0)) for precision in ("fp32", "bf16"))
    for name in expected:
        if name.startswith("camera/") or name == "discriminator/r1":
            assert torch.equal(stats[name], expected[name]), name


def test_bf16_goes_on_training() -> None:
    trainer = _trainer("bf16")
    for _ in range(5):
        stats = trainer.step(make_batch(trainer.images))
    assert all(torch.isfinite(value) for value in stats.values())
