"""Parts of the discriminator against naive computations."""

from __future__ import annotations

import math

import pytest
import torch

from threedgp.models.discriminator import PatchEncoding, minibatch_std


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
        # float32 angles reach 1,600, where neighbouring numbers are 1.2e-4 apart.
        assert part[:10].tolist() == pytest.approx([math.sin(a) for a in angles], abs=3e-4)
        assert part[10:20].tolist() == pytest.approx([math.cos(a) for a in angles], abs=3e-4)
        assert torch.equal(part[20:], encoding.lookup.weight[round(1000 * value)])
