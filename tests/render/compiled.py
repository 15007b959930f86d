"""Compiles the Triton kernels for GPUs that need not be present, and prints their properties as JSON.

test_compiled_kernels.py runs it in a process of its own for each version of Triton: `python compiled.py TARGET...`.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from threedgp.render.triton import compositing, field, resampling
from threedgp.render.triton.compiler import COMPILER_OPTIONS
from threedgp.render.triton.field import Tile, backward_tile, forward_tile

FLOATS = {"inverse_half_width", "max_optical_depth", "empty", "last", "bias", "gain"}
INTEGERS = {
    *("channels", "out_height", "out_width", "padding"),
    *("rays", "samples", "height", "width", "stride_b", "stride_p", "stride_h", "stride_w", "tiles", "total_tiles"),
    *("grad_stride_b", "grad_stride_p", "grad_stride_h", "grad_stride_w", "count", "count_1", "count_2", "fine"),
}
GRADIENTS = dict(PLANES=True, POSITIONS=True, DECODER=True)
PUBLISHED = [(32, 64, "*fp32"), (32, 64, "*bf16"), (32, 64, "*fp16")]
OTHERS = [(8, 16, "*bf16"), (16, 64, "*bf16"), (16, 128, "*fp32"), (32, 128, "*fp32"), (64, 128, "*fp32")]


def compile_kernel(
    kernel: object, constants: dict[str, object], warps: int, target: int, planes: str = "*fp32"
) -> dict[str, object]:
    """Bytes that a thread spills, bytes of shared memory of a program, and instructions that access global memory."""
    is_field = "planes" in kernel.arg_names
    signature, attributes = {}, {}
    for k, name in enumerate(kernel.arg_names):
        if name in constants:
            signature[name] = "constexpr"
        elif name in FLOATS:
            signature[name] = "fp32"
        elif name in INTEGERS and not (name == "samples" and not is_field):
            signature[name] = "i32"
            if name == "channels":  # a multiple of 16, as Triton sees it at run time
                attributes[(k,)] = [["tt.divisibility", 16]]
        else:  # pointers are 16-byte aligned, as those of PyTorch
            signature[name] = planes if name == "planes" or "gain" in kernel.arg_names else "*fp32"
            attributes[(k,)] = [["tt.divisibility", 16]]
    source = ASTSource(kernel, signature, constexprs=constants, attrs=attributes)
    options = {"num_warps": warps, **COMPILER_OPTIONS}
    made = triton.compile(source, target=GPUTarget("cuda", target, 32), options=options)
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(made.asm["cubin"])
        file.flush()
        report = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    accesses = set(re.findall(r"\b(?:ld|st|red|atom)\.global\.\S+", made.asm["ptx"]))
    stack = int(re.search(r"STACK:(\d+)", report)[1])
    return {"stack": stack, "shared": made.metadata.shared, "accesses": sorted(accesses)}


def compile_field(
    channels: int, hidden: int, planes: str, target: int, tile: Tile, **constants: object
) -> dict[str, object]:
    """The forward kernel, or the backward kernel if the constants are those of gradients."""
    constants = (
        dict(
            C=channels,
            BLOCK_C=max(16, channels),
            HIDDEN=hidden,
            BLOCK_H=triton.next_power_of_2(hidden),
            BLOCK_R=max(tile.samples // 32, 1),
            BLOCK_S=min(tile.samples, 32),
            CONTRACT=False,
            WIDE=False,
            DOT=tl.bfloat16 if planes == "*bf16" and channels >= 16 else tl.float32,
            PRECISION="tf32",
        )
        | constants
    )
    kernel = field.field_backward_kernel if "PLANES" in constants else field.field_forward_kernel
    made = compile_kernel(kernel, constants, tile.warps, target, planes)
    return made | {"channels": channels, "programs": tile.programs_per_processor}


def properties(target: int) -> dict[str, dict[str, object]]:
    """Properties of all kernels, by name."""
    capability = (target // 10, target % 10)
    made = {}
    for channels, hidden, planes in PUBLISHED + OTHERS:
        name = f"C {channels}, hidden {hidden}, {planes[1:]}"
        sizes = (channels, hidden, planes, target)
        made[f"field backward, {name}"] = compile_field(*sizes, backward_tile(channels, capability), **GRADIENTS)
        forth = forward_tile(channels, capability)
        made[f"field forward, {name}"] = compile_field(*sizes, forth, NOISE=True, STOP=False)
    sizes, contracted = (32, 64, "*bf16", target), dict(CONTRACT=True, WIDE=True)
    back, forth = backward_tile(32, capability), forward_tile(32, capability)
    made["field backward, contracted, C 32"] = compile_field(*sizes, back, **GRADIENTS, **contracted)
    made["field forward, contracted, C 32"] = compile_field(*sizes, forth, NOISE=True, STOP=False, **contracted)
    made["field forward, stopping, C 32"] = compile_field(*sizes, forth, NOISE=True, STOP=True)
    for midpoint in (False, True):
        constants = dict(BLOCK_R=4, BLOCK_S=64, SORT=True, MIDPOINT=midpoint, LAST_BACK=True, SIGMOID=midpoint)
        constants["WHITE"] = True
        name = f"composite, midpoint {midpoint}"
        made[f"{name}, forward"] = compile_kernel(compositing.composite_forward_kernel, constants, 4, target)
        constants |= dict(RGB=True, DEPTH=True, WEIGHTS=False, TRANSMITTANCE=False)
        made[f"{name}, backward"] = compile_kernel(compositing.composite_backward_kernel, constants, 4, target)
    for transposed in (False, True):
        constants = dict(STRIDE=2, TRANSPOSED=transposed, PIXELS=resampling.BLOCK // 64, CHANNELS=64)
        name = "filter, transposed" if transposed else "filter"
        made[name] = compile_kernel(resampling.filter_kernel, constants, 4, target, "*bf16")
    constants = dict(BLOCK_R=4, BLOCK_S=32, BLOCK_F=16)
    made["importance"] = compile_kernel(compositing.importance_kernel, constants, 4, target)
    return made


if __name__ == "__main__":
    kernels = {target: properties(int(target)) for target in sys.argv[1:]}
    print(json.dumps({"version": triton.__version__, "kernels": kernels}))
