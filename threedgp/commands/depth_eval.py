"""What `threedgp depth-eval` does, prints and writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from threedgp.config import DepthConfig, MachineConfig
from threedgp.depth.estimator import build_estimator
from threedgp.depth.evaluation import Result, evaluate_estimator, find_pairs, mean_score
from threedgp.depth.scores import Score
from threedgp.runtime.atomic import write_json
from threedgp.runtime.errors import UserError
from threedgp.runtime.targets import require_writable, writing


def compare(images: Path, depth: Path | None, json: Path | None, settings: dict[str, Any], device: str) -> None:
    """Score an estimator on the pictures of `images`; print a line for each, and write them to the file `json`.

    Args:
        images, depth: as in `find_pairs`.
        settings: of section `depth`.
        device: as `machine.device`.

    Raises:
        UserError: a setting is wrong, there are no pairs, the estimator cannot be had, no picture has a score, or
            `json` cannot be written.
    """
    try:
        config, machine = DepthConfig(**settings), MachineConfig(device=device)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"--{str(first['loc'][0]).replace('_', '-')}: {first['input']!r}: {first['msg']}.") from None
    if json:
        require_writable(json, "--json")
    pairs = find_pairs(images, depth)
    results = evaluate_estimator(build_estimator(config, machine.device), pairs)
    mean = mean_score(results)
    if mean is None:
        raise UserError(f"{images}: no picture has a score; of {results[0].name}: {results[0].reason}.")
    try:
        if json:
            _write(json, settings, results, mean)
    finally:  # the file first, for a closed terminal must not cost it; without the file, the table is all there is
        Console().print(_table(results, mean))


def _write(file: Path, settings: dict[str, Any], results: Sequence[Result], mean: Score) -> None:
    rejected = [{"picture": one.name, "reason": one.reason} for one in results if one.score is None]
    scores = [{"picture": one.name, **asdict(one.score)} for one in results if one.score]
    with writing(file, "--json"):
        write_json(file, {**settings, "mean": asdict(mean), "pictures": scores, "rejected": rejected})


def _table(results: Sequence[Result], mean: Score) -> Table:
    table = Table("picture", "AbsRel", "delta1", "correlation", "truth known")
    for column in table.columns[1:]:
        column.justify = "right"
    for one in results:
        cells = _cells(one.score) if one.score else [Text(one.reason or "", style="yellow")]
        table.add_row(Text(one.name), *cells)  # a plain string would be read as markup, and `:x:` as an emoji
    scored = sum(one.score is not None for one in results)
    table.add_section()
    table.add_row(f"mean of {scored}", *_cells(mean), style="bold")
    return table


def _cells(score: Score) -> list[str | Text]:
    return [f"{score.abs_rel:.3f}", f"{score.delta1:.3f}", f"{score.correlation:.3f}", f"{score.known:.0%}"]
