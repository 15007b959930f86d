"""What `threedgp depth-eval` does, prints and writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from threedgp.atomic import write_json
from threedgp.config import DepthConfig, MachineConfig
from threedgp.depth.registry import build_estimator
from threedgp.depth_check.evaluation import Result, evaluate_estimator, find_pairs, mean_score
from threedgp.depth_check.scores import Score
from threedgp.errors import UserError


def compare(images: Path, depth: Path | None, json: Path | None, settings: dict[str, Any], device: str) -> None:
    """Score an estimator on the pictures of `images`; print a line for each, and write them to the file `json`.

    Args:
        images, depth: as in `find_pairs`.
        settings: of section `depth`.
        device: as `machine.device`.

    Raises:
        UserError: a setting is wrong, there are no pairs, the estimator cannot be had, or no picture has a score.
    """
    try:
        config, machine = DepthConfig(**settings), MachineConfig(device=device)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"--{str(first['loc'][0]).replace('_', '-')}: {first['input']!r}: {first['msg']}.") from None
    pairs = find_pairs(images, depth)
    results = evaluate_estimator(build_estimator(config, machine.device), pairs)
    mean = mean_score(results)
    if mean is None:
        raise UserError(f"{images}: no picture has a score; of {results[0].name}: {results[0].reason}.")
    Console().print(_table(results, mean))
    if json:
        rejected = [{"picture": one.name, "reason": one.reason} for one in results if one.score is None]
        scores = [{"picture": one.name, **asdict(one.score)} for one in results if one.score]
        write_json(json, {**settings, "mean": asdict(mean), "pictures": scores, "rejected": rejected})


def _table(results: Sequence[Result], mean: Score) -> Table:
    table = Table("picture", "AbsRel", "delta1", "correlation", "truth known")
    for column in table.columns[1:]:
        column.justify = "right"
    for one in results:
        cells = _cells(one.score) if one.score else [f"[yellow]{one.reason}[/]"]
        table.add_row(one.name, *cells)
    scored = sum(one.score is not None for one in results)
    table.add_section()
    table.add_row(f"mean of {scored}", *_cells(mean), style="bold")
    return table


def _cells(score: Score) -> list[str]:
    return [f"{score.abs_rel:.3f}", f"{score.delta1:.3f}", f"{score.correlation:.3f}", f"{score.known:.0%}"]
