"""``threedgp push``: a model as a repository of the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from threedgp.commands import options
from threedgp.runtime.errors import UserError

NUM_SAMPLES, COLUMNS, TILE = 8, 4, 256
"""Images of the card, and the size to which small ones are enlarged."""


def push(
    model: options.ModelArgument,
    repo: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Repository of the hub; created if it is missing.")],
    license: Annotated[
        str | None, typer.Option(help="License of the model, by its name on the hub, such as apache-2.0.")
    ] = None,
    title: Annotated[
        str | None, typer.Option(help="Title of the model card. Default: the name of the data set.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Create the repository as a private one.")] = False,
    to_folder: Annotated[
        Path | None, typer.Option("--to-folder", help="Write the files there, and upload nothing.")
    ] = None,
    device: options.DeviceOption = "auto",
) -> None:
    """Upload a model to the Hugging Face hub: weights, configuration, sample images, and a model card with data,
    settings, metrics beside their controls, and the licenses of the weights that it learned from.

    A README.md in the folder of the model is used as its card, with its own title and license. The token is HF_TOKEN,
    or that of `hf auth login`.

    \b
    Example:
      threedgp push results/model ann/toys --license apache-2.0
      threedgp generate hf://ann/toys --seeds 0-15
    """
    from threedgp.api import open_model
    from threedgp.commands import model_card
    from threedgp.commands.outputs import count_of
    from threedgp.fetch.hub import require_repository_name, upload_model
    from threedgp.models.saving import CONFIG, DISCRIMINATOR, WEIGHTS
    from threedgp.runtime.atomic import write_bytes
    from threedgp.runtime.progress import say
    from threedgp.runtime.targets import writing
    from threedgp.visual.grids import depth_colors, grid_png

    require_repository_name(repo)
    names = {WEIGHTS, CONFIG, DISCRIMINATOR, model_card.RUN, "README.md", "samples.png", "depth.png"}
    if to_folder and (others := sorted(path.name for path in to_folder.glob("[!.]*") if path.name not in names)):
        raise UserError(f"--to-folder: {to_folder} holds other files, such as {others[0]}; name a new folder.")
    own_card = model / "README.md" if (model / "README.md").is_file() else None
    if own_card and (title or license):
        raise UserError(f"--title and --license: {own_card} is used as the card; leave them out, or change that file.")
    opened = open_model(model, device)
    run = model_card.read_run(model)
    evaluation = model_card.read_evaluation(model.parent, opened.sha256)
    if evaluation is None and not own_card:
        say("push: the card has no metrics, since the folder beside the model holds no evaluation of it")
    comparisons, metrics = evaluation or ([], {})
    files: dict[str, bytes | Path] = {
        name: model / name for name in (WEIGHTS, CONFIG, DISCRIMINATOR, model_card.RUN) if (model / name).is_file()
    }
    views = opened.sample(range(NUM_SAMPLES)).views(progress=True)
    files["samples.png"] = grid_png(views.images[:, 0], COLUMNS, TILE)
    if views.depth is not None:
        files["depth.png"] = grid_png(depth_colors(views.depth[:, 0]), COLUMNS, TILE)
    files["README.md"] = own_card or model_card.model_card(
        title or opened.config.get("dataset") or repo.rpartition("/")[2],
        repo,
        license=license,
        kind=opened.config["model"]["kind"],
        dataset=opened.config.get("dataset"),
        resolution=opened.resolution,
        class_names=opened.class_names,
        has_density=opened.generator.has_density,
        has_discriminator=DISCRIMINATOR in files,
        last_seed=NUM_SAMPLES - 1,
        sha256=opened.sha256,
        facts=model_card.facts_of(opened.config, run, metrics),
        settings=run["settings"],
        comparisons=comparisons,
        samples=metrics.get("samples"),
        weights=model_card.used_weights(opened.config, run),
    ).encode()  # fmt: skip
    if to_folder:
        with writing(to_folder, "--to-folder"):
            for name, content in files.items():
                write_bytes(to_folder / name, content.read_bytes() if isinstance(content, Path) else content)
        print(f"{to_folder}: {count_of(len(files), 'file')}; nothing was uploaded.")
    else:
        address = upload_model(repo, files, private=private, message="Upload a model of threedgp")
        print(f"{address}: {count_of(len(files), 'file')}.")
