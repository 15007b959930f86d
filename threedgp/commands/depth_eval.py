"""``threedgp depth-eval``: an estimator of depth against true depth."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from threedgp.commands.options import DeviceOption, depth_settings
from threedgp.runtime.errors import UserError


def depth_eval(
    estimator: Annotated[str, typer.Option(help="Name as in `depth.estimator`, such as leres.")],
    images: Annotated[Path, typer.Option(help="Folder of images.")],
    depth: Annotated[
        Path | None, typer.Option(help="Folder of true depth, 16-bit PNG or .npy. Default: beside the images.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="As in `depth.weights`.")] = None,
    batch_size: Annotated[int, typer.Option(help="As in `depth.batch_size`.")] = 16,
    device: DeviceOption = "auto",
    json: Annotated[Path | None, typer.Option(help="Also write the scores to this file.")] = None,
) -> None:
    """Compare an estimator with true depth, up to scale and shift: AbsRel, delta1 (docs/depth.md)."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from threedgp.depth.estimator import build_estimator
    from threedgp.depth.evaluation import Score, evaluate_estimator, find_pairs, mean_score
    from threedgp.runtime.atomic import write_json
    from threedgp.runtime.progress import CONTROL
    from threedgp.runtime.targets import require_writable, writing

    def cells(score: Score) -> list[str]:
        return [f"{score.abs_rel:.3f}", f"{score.delta1:.3f}", f"{score.correlation:.3f}", f"{score.known:.0%}"]

    settings = {"estimator": estimator, "weights": weights, "batch_size": batch_size}
    config = depth_settings(settings)
    if json:
        require_writable(json, "--json")
    pairs = find_pairs(images, depth)
    results = evaluate_estimator(build_estimator(config, device), pairs)
    mean = mean_score(results)
    if mean is None:
        raise UserError(f"{images}: no image has a score; {results[0].name}: {results[0].reason}.")
    try:
        if json:
            rejected = [{"picture": one.name, "reason": one.reason} for one in results if one.score is None]
            scores = [{"picture": one.name, **asdict(one.score)} for one in results if one.score]
            with writing(json, "--json"):
                write_json(json, {**settings, "mean": asdict(mean), "pictures": scores, "rejected": rejected})
    finally:  # after the file, which must be written even if the terminal was closed
        table = Table("image", "AbsRel", "delta1", "correlation", "true depth")
        for column in table.columns[1:]:
            column.justify = "right"
        for one in results:
            row = cells(one.score) if one.score else [Text(one.reason or "", style="yellow")]
            # A plain string would be read as markup, and `:x:` as an emoji.
            table.add_row(Text(one.name.translate(CONTROL)), *row)
        table.add_section()
        table.add_row(f"mean of {sum(one.score is not None for one in results)}", *cells(mean), style="bold")
        Console().print(table)
