"""``threedgp snapshot``: the model of a run that has not ended."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from threedgp.commands.options import PARAMS, ParamsOption
from threedgp.runtime.errors import UserError


def snapshot(
    run: Annotated[Path, typer.Argument(help="Folder of the run in .scratch/train.")],
    folder: Annotated[Path, typer.Argument(help="Folder for model.safetensors and config.json.")],
    best: Annotated[
        bool, typer.Option("--best", help="The best measured model so far, not the newest (as train.publish does).")
    ] = False,
    kimg: Annotated[
        float,
        typer.Option(min=0, help="Use the newest state up to this many thousand images.", show_default="all"),
    ] = math.inf,
    params: ParamsOption = PARAMS,
) -> None:
    """Write the model of a run from a saved state, while the run goes on or after it has failed. Every command takes
    such a model, and train.init_from starts from it. The discriminator is that of the state.

    \b
    Example:
      threedgp snapshot .scratch/train/0123456789abcdef models/today --best
    """
    import torch

    from threedgp.commands.run_states import require_settings
    from threedgp.config import load_config
    from threedgp.data.shards import ShardFolder
    from threedgp.models.initialization import initial_networks
    from threedgp.models.saving import save_model
    from threedgp.runtime.targets import writing
    from threedgp.training.checkpoints import load_state, saved_states

    config = load_config(params)
    states = run / "states" if (run / "states").is_dir() else run
    known = [images for images in saved_states(states) if images / 1000 <= kimg]
    if not known:
        limit = f" of at most {kimg:g} thousand images" if kimg < math.inf else ""
        raise UserError(f"{run}: holds no saved state{limit}; name the folder of a run in .scratch/train.")
    state = load_state(states, known[-1], torch.device("cpu"))
    require_settings(run, state, config)
    images, weights = known[-1], state["trainer"]["average"]
    if best:
        images, weights = state["run"]["best_images"], state["run"]["best_weights"]
        if images < 0:
            raise UserError(f"--best: {run} has not been measured yet (train.metric_kimg); leave the option out.")
    data = ShardFolder(Path("data", config.dataset.name, "shards")).meta
    probabilities = [count / sum(data["class_counts"]) for count in data["class_counts"]]
    generator, discriminator = initial_networks(
        config, data["num_classes"], probabilities, data["embedding_dim"], data.get("fov_quantiles")
    )
    try:
        generator.load_state_dict(weights)
        discriminator.load_state_dict(state["trainer"]["discriminator"])
    except RuntimeError:  # the shards have other classes
        raise UserError(f"{run}: the run was trained on other shards; name the run's settings (--params).") from None
    about = dict(class_names=data["class_names"], kimg=images / 1000, discriminator=discriminator)
    with writing(folder, "snapshot"):
        save_model(folder, generator, config, **about)
    print(f"{folder} now holds the averaged generator after {images / 1000:g} thousand images.")
