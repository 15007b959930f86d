"""Errors of the Triton kernels in comparison with PyTorch's operators in float64: the cases of test_gpu.py.

    PYTHONPATH=.:tests python tests/render/kernel_errors.py --part float32
    TRITON_INTERPRET=1 PYTHONPATH=.:tests python tests/render/kernel_errors.py --part composite --device cpu --tiny

Writes one row a case, as soon as it is known, and goes on after a case that is wrong or fails. Ends with code 1 if one
was wrong or failed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from render.kernel_checks import SWITCHES, FieldCase, composite_errors, field_errors, importance_error, render_errors
from render.test_gpu import BF16, CASES, COUNTS, IMPORTANCE, TF32, wrong

PARTS = ("float32", "bfloat16", "float16", "composite")
"""Dtypes of the field's planes, and everything else, which is float32."""
Work = tuple[str, Callable[[], tuple[dict[str, float], dict[str, float]]]]


def cases(part: str, device: str) -> list[Work]:
    """Name of each case, and a function that returns its errors by name, and those that are too large."""
    if part != "composite":
        dtype, tolerance = getattr(torch, part), BF16 if part == "bfloat16" else TF32

        def field(case: FieldCase) -> tuple[dict[str, float], dict[str, float]]:
            errors = field_errors(case, "triton", device)
            return errors, wrong(errors, case, tolerance)

        some = {f"field, {name}": case._replace(dtype=dtype) for name, case in CASES.items()}
        some |= {f"{name}, smooth": case._replace(kinks=False) for name, case in some.items()}
        return [(name, lambda case=case: field(case)) for name, case in some.items()]

    def within(tolerance: float, errors: dict[str, float]) -> tuple[dict[str, float], dict[str, float]]:
        return errors, {name: value for name, value in errors.items() if value > tolerance}

    made: list[Work] = []
    for counts in COUNTS:
        for switches in SWITCHES:
            if not (switches.get("midpoint") and sum(counts) < 2):
                name = f"composite, {counts}, {switches}"
                made.append((name, lambda c=counts, s=switches: within(1e-4, composite_errors(c, 301, s, device))))
    for count, fine in IMPORTANCE:
        name = f"importance, {count}, {fine}"
        made.append((name, lambda c=count, f=fine: within(1e-4, {"distances": importance_error(c, f, 500, device)})))
    sizes = dict(rays=333, coarse=16, fine=24)
    return [*made, ("whole rendering", lambda: within(2e-2, render_errors("triton", device, **sizes)))]


def main() -> None:
    """Run the cases of one part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", required=True, choices=PARTS)
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--tiny", action="store_true", help="one case alone, for a device that is slow")
    parser.add_argument("--results", type=Path, default=Path("kernel_errors.jsonl"))
    options = parser.parse_args()
    failures = 0
    for name, work in cases(options.part, options.device)[: 1 if options.tiny else None]:
        row: dict[str, object] = {"part": options.part, "case": name}
        try:
            errors, too_large = work()
            row |= {"ok": not too_large, "errors": errors}
        except Exception as error:
            row |= {"ok": False, "failed": f"{type(error).__name__}: {str(error)[:500]}"}
        failures += not row["ok"]
        with options.results.open("a", encoding="utf-8") as results:
            results.write(json.dumps(row) + "\n")
        print(
            "ok   " if row["ok"] else "WRONG",
            name,
            "" if row["ok"] else row.get("failed", row.get("errors")),
            flush=True,
        )
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
