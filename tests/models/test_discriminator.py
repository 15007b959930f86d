"""Parts of the discriminator against naive computations."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from threedgp.config.model import DiscriminatorConfig, ModelConfig
from threedgp.models.discriminator import Discriminator, PatchEncoding, minibatch_std
from threedgp.training.losses import gradient_penalty


def test_minibatch_deviation_of_contiguous_groups() -> None:
    x = torch.randn(8, 3, 2, 2, generator=torch.Generator().manual_seed(0)).double()
    out = minibatch_std(x, 4)
    assert torch.equal(out[:, :3], x)
    for start in (0, 4):
        total = 0.0
        for c in range(3):
            for i in range(2):
                for j in range(2):
                    values = x[start : start + 4, c, i, j]
                    total += math.sqrt(((values - values.mean()) ** 2).mean().item() + 1e-8)
        assert out[start : start + 4, 3].unique().tolist() == pytest.approx([total / 12])


def test_groups_do_not_see_each_other() -> None:
    x = torch.randn(8, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    changed = x.clone()
    changed[4:] *= 10
    assert torch.equal(minibatch_std(x, 4)[:4], minibatch_std(changed, 4)[:4])


def test_patch_encoding_by_its_formula() -> None:
    torch.manual_seed(0)
    encoding = PatchEncoding()
    out = encoding(torch.tensor([[0.25, 0.1234, 0.7]]))[0]
    for i, value in enumerate((0.25, 0.1234, 0.7)):
        part = out[i * 276 : (i + 1) * 276]
        angles = [1000 * value * math.pi * 2**k / 1024 for k in range(10)]
        # float32 angles reach 1,600, where neighboring numbers are 1.2e-4 apart.
        assert part[:10].tolist() == pytest.approx([math.sin(a) for a in angles], abs=3e-4)
        assert part[10:20].tolist() == pytest.approx([math.cos(a) for a in angles], abs=3e-4)
        assert torch.equal(part[20:], encoding.lookup.weight[round(1000 * value)])


def test_balanced_conditioning_gives_class_and_position_equal_weight() -> None:
    """The projection that the logits are computed with is the mapping of two embeddings of unit second moment."""
    torch.manual_seed(0)
    config = DiscriminatorConfig(
        patch_resolution=8, channel_base=64, channel_max=16, patch_encoding_width=8, conditioning="balanced"
    )
    discriminator = Discriminator(ModelConfig(discriminator=config), 16, 3, 0)
    assert not any("lookup" in name for name, _ in discriminator.named_parameters())
    images, patch, labels = torch.randn(4, 4, 8, 8), torch.rand(4, 3), torch.tensor([0, 1, 2, 0])

    encoding = discriminator.patch_encoding(patch)
    assert encoding.shape == (4, 60)
    mapping, label = discriminator.head_mapping, discriminator.embed_label.linear
    parts = [
        encoding @ mapping.embed.weight.t() / math.sqrt(60) + mapping.embed.bias,
        torch.eye(3)[labels] @ label.weight.t() / math.sqrt(3) + label.bias,
    ]
    projection = mapping.layers(sum(part / part.square().mean(dim=1, keepdim=True).sqrt() for part in parts))
    features = {}
    discriminator.output.register_forward_hook(lambda module, inputs, output: features.update(x=output))
    logits, _ = discriminator(images, patch, labels)
    assert torch.allclose(logits, (features["x"] * projection).sum(dim=1) / 4, rtol=1e-4, atol=1e-6)  # sqrt(16)


def test_gradients_of_the_penalty_do_not_depend_on_the_path() -> None:
    """R1 differentiates twice, through whatever is compiled for float32; in float64 nothing is."""
    config = DiscriminatorConfig(patch_resolution=16, channel_base=512, channel_max=32, patch_encoding_width=64)
    torch.manual_seed(0)
    single = Discriminator(ModelConfig(discriminator=config), 32, 3, 0)
    for name, parameter in single.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.3)
    # Sines of the patch's scale are not continuous in float32 at this size: the same numbers for both.
    encoding = single.patch_encoding(torch.rand(4, 3)).detach()
    images = torch.randn(4, 4, 16, 16)
    gradients = []
    for dtype in (torch.float32, torch.float64):
        discriminator = copy.deepcopy(single).to(dtype, memory_format=torch.channels_last)
        discriminator.patch_encoding.register_forward_hook(lambda *_, dtype=dtype: encoding.to(dtype))
        reals = images.to(dtype).requires_grad_()
        logits, _ = discriminator(reals, torch.zeros(4, 3, dtype=dtype), torch.tensor([0, 1, 2, 0]))
        gradient_penalty(logits, reals, 1.0).backward()
        gradients.append({n: p.grad for n, p in discriminator.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert sum("affine.weight" in name for name in gradients[0]) == 3
    for name, truth in gradients[1].items():
        error = (gradients[0][name] - truth).norm() / truth.norm()
        # Rounding, and the few activations whose sign it changes; a missing path gives 0.1 to 1.
        assert truth.norm() == 0 or error < 5e-3, f"{name}: {error}"
