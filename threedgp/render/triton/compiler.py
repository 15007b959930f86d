"""Options of Triton's compiler that all kernels share.

Triton launches kernels on the current device of the thread, so callers make that of the tensors the current one.
"""

from __future__ import annotations

import triton

INTERPRETED = triton.knobs.runtime.interpret

# num_stages: more stages would put the gathered texels into shared memory, which is too small for them.
# enable_fp_fusion: explicit, because its default changes in Triton 3.10, and results with it.
COMPILER_OPTIONS = {} if INTERPRETED else {"num_stages": 1, "enable_fp_fusion": True}
