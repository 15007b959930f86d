"""``threedgp ema``: a model with another average of the weights of its training."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Annotated

import typer

from threedgp.runtime.errors import UserError


def ema(
    run: Annotated[Path, typer.Argument(help="Folder of results, with model and training/averages.")],
    folder: Annotated[Path, typer.Argument(help="Folder for model.safetensors and config.json.")],
    sigma_rel: Annotated[
        float, typer.Option(min=0.005, max=0.28, help="Length of the average, relative to the time trained.")
    ],
    kimg: Annotated[
        float,
        typer.Option(min=0, help="Use the snapshots of at most this many thousand images.", show_default="all"),
    ] = math.inf,
) -> None:
    """Reconstruct an average of the weights after training (post-hoc EMA), as a model folder. The run must have been
    trained with train.posthoc_ema.snapshot_kimg above 0. docs/beyond.md describes how to compare averages.

    \b
    Example:
      threedgp ema results models/ema-0.07 --sigma-rel 0.07
    """
    from threedgp.commands.model_card import RUN
    from threedgp.models.loading import load_untrained, read_model_config
    from threedgp.models.saving import write_model
    from threedgp.runtime.targets import writing
    from threedgp.training.posthoc import FOLDER, reconstruct

    model = run / "model"
    if folder.resolve() == model.resolve():
        raise UserError(f"{folder}: is the model of the run itself; name another folder.")
    config, generator = read_model_config(model), load_untrained(model)
    found = reconstruct(run / "training" / FOLDER, sigma_rel, kimg)
    try:
        generator.load_state_dict(found.state)
    except RuntimeError:
        raise UserError(f"{run}: the snapshots are not of the model in {model}; restore the results.") from None
    about = {key: config.get(key) for key in ("resolution", "class_names", "seed", "dataset")}
    with writing(folder, "ema"):
        write_model(folder, generator, **about, kimg=found.images / 1000)
        if (model / RUN).is_file():
            shutil.copyfile(model / RUN, folder / RUN)
    print(
        f"{folder} now holds the average of sigma_rel {sigma_rel:g} after {found.images / 1000:g} thousand images; "
        f"its profile differs by {found.error:.2%} from the requested one."
    )
