"""Properties of the compiled kernels, without a GPU: spills, shared memory and vector instructions."""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest
import triton

if triton.knobs.runtime.interpret:
    pytest.skip("the interpreter compiles nothing", allow_module_level=True)

import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from threedgp.render.triton import compositing as triton_compositing
from threedgp.render.triton import field as triton_field
from threedgp.render.triton.compiler import COMPILER_OPTIONS
from threedgp.render.triton.field import Tile, backward_tile, forward_tile

SHARED_LIMIT = {90: 227 * 1024, 80: 163 * 1024}
FLOATS = {"inverse_half_width", "max_optical_depth", "empty", "last", "bias"}
INTEGERS = {
    *("rays", "samples", "height", "width", "stride_b", "stride_p", "stride_h", "stride_w", "tiles", "total_tiles"),
    *("grad_stride_b", "grad_stride_p", "grad_stride_h", "grad_stride_w", "count", "count_1", "count_2", "fine"),
}


class Compiled(NamedTuple):
    """The result of a compilation."""

    ptx: str
    stack: int
    """Bytes that each thread spills."""
    shared: int


def compile_kernel(kernel: object, constants: dict[str, object], warps: int, target: int, planes: str) -> Compiled:
    """Compile for a GPU that need not be present; pointers are 16-byte aligned, as those of PyTorch."""
    is_field = "planes" in kernel.arg_names
    signature, attributes = {}, {}
    for k, name in enumerate(kernel.arg_names):
        if name in constants:
            signature[name] = "constexpr"
        elif name in FLOATS:
            signature[name] = "fp32"
        elif name in INTEGERS and not (name == "samples" and not is_field):
            signature[name] = "i32"
        else:
            signature[name] = planes if name == "planes" else "*fp32"
            attributes[(k,)] = [["tt.divisibility", 16]]
    source = ASTSource(kernel, signature, constexprs=constants, attrs=attributes)
    made = triton.compile(
        source, target=GPUTarget("cuda", target, 32), options={"num_warps": warps, **COMPILER_OPTIONS}
    )
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(made.asm["cubin"])
        file.flush()
        report = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    return Compiled(made.asm["ptx"], int(re.search(r"STACK:(\d+)", report)[1]), made.metadata.shared)


def field_constants(channels: int, hidden: int, tile: Tile, low_precision: bool) -> dict[str, object]:
    return dict(
        C=channels,
        BLOCK_C=max(16, channels),
        HIDDEN=hidden,
        BLOCK_H=triton.next_power_of_2(hidden),
        BLOCK_R=max(tile.samples // 32, 1),
        BLOCK_S=min(tile.samples, 32),
        CONTRACT=False,
        WIDE=False,
        DOT=tl.bfloat16 if low_precision else tl.float32,
        PRECISION="tf32",
    )


@pytest.mark.parametrize(
    ("channels", "hidden", "planes"),
    [
        (32, 64, "*fp32"),
        (32, 64, "*bf16"),
        (8, 16, "*bf16"),
        (64, 128, "*fp32"),
        (16, 64, "*bf16"),
        (32, 64, "*fp16"),
        (16, 128, "*fp32"),
    ],
)
def test_backward_does_not_spill_and_adds_vectors(channels: int, hidden: int, planes: str) -> None:
    tile = backward_tile(channels)
    constants = field_constants(channels, hidden, tile, planes == "*bf16" and channels >= 16)
    constants |= dict(PLANES=True, POSITIONS=True, DECODER=True)
    made = compile_kernel(triton_field.field_backward_kernel, constants, tile.warps, 90, planes)
    assert made.stack <= (64 if channels == 16 else 0)  # bytes a thread, of sizes that nobody has published
    assert made.shared * tile.programs_per_processor <= SHARED_LIMIT[90]
    reductions = re.findall(r"\bred\.\S+", made.ptx)
    width = ".v4.f32" if channels > 8 else ".v2.f32"
    assert reductions
    assert all(width in r and ".relaxed." in r for r in reductions), set(reductions)


@pytest.mark.parametrize(
    ("channels", "hidden", "stop", "target"),
    [(32, 64, False, 90), (32, 64, True, 90), (64, 128, False, 90), (32, 64, False, 80)],
)
def test_forward_does_not_spill_and_loads_vectors(channels: int, hidden: int, stop: bool, target: int) -> None:
    tile = forward_tile(channels)
    constants = field_constants(channels, hidden, tile, False) | dict(NOISE=True, STOP=stop)
    made = compile_kernel(triton_field.field_forward_kernel, constants, tile.warps, target, "*fp32")
    assert made.stack == 0
    assert made.shared <= SHARED_LIMIT[target]
    assert "ld.global.v4.b32" in re.sub(r"\.L1::\S+?(?=\.v4)", "", made.ptx)


def test_contraction_and_wide_offsets_cost_no_spills() -> None:
    tile = backward_tile(32)
    constants = field_constants(32, 64, tile, True) | dict(CONTRACT=True, WIDE=True)
    constants |= dict(PLANES=True, POSITIONS=True, DECODER=True)
    made = compile_kernel(triton_field.field_backward_kernel, constants, tile.warps, 90, "*bf16")
    assert made.stack == 0
    tile = forward_tile(32)
    constants = field_constants(32, 64, tile, True) | dict(CONTRACT=True, WIDE=True, NOISE=True, STOP=False)
    made = compile_kernel(triton_field.field_forward_kernel, constants, tile.warps, 90, "*bf16")
    assert made.stack == 0


def test_field_compiles_for_sm_80() -> None:
    tile = backward_tile(32, (8, 0))
    constants = field_constants(32, 64, tile, False) | dict(PLANES=True, POSITIONS=True, DECODER=True)
    made = compile_kernel(triton_field.field_backward_kernel, constants, tile.warps, 80, "*fp32")
    assert made.stack <= 128  # bytes; sm_80 needs more registers, and its addition of single floats is slower by far
    assert made.shared <= SHARED_LIMIT[80]


@pytest.mark.parametrize(("target", "midpoint"), [(80, False), (90, True)])
def test_compositing_does_not_spill(target: int, midpoint: bool) -> None:
    constants = dict(BLOCK_R=4, BLOCK_S=64, SORT=True, MIDPOINT=midpoint, LAST_BACK=True, SIGMOID=midpoint, WHITE=True)
    forward = compile_kernel(triton_compositing.composite_forward_kernel, constants, 4, target, "*fp32")
    constants |= dict(RGB=True, DEPTH=True, WEIGHTS=False, TRANSMITTANCE=False)
    backward = compile_kernel(triton_compositing.composite_backward_kernel, constants, 4, target, "*fp32")
    constants = dict(BLOCK_R=4, BLOCK_S=32, BLOCK_F=16)
    importance = compile_kernel(triton_compositing.importance_kernel, constants, 4, target, "*fp32")
    for made in (forward, backward, importance):
        assert made.stack == 0
        assert made.shared <= 48 * 1024
