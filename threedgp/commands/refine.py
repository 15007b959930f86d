"""``threedgp refine``: a model whose scenes a 2D diffusion model has corrected from all sides."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from threedgp.commands import options
from threedgp.runtime.errors import UserError

DIFFUSION = "stable-diffusion-v1-5/stable-diffusion-v1-5"
STATES = "states"
"""Folder of the saved states in that of the result, until it is complete."""
SAVE_STEPS = 100
"""Steps between two saved states."""


def refine(
    model: options.ModelArgument,
    prompt: Annotated[
        str, typer.Option(help="What images show; {class} stands for the name of the class.")
    ] = "a photo of a {class}",
    diffusion: Annotated[
        str,
        typer.Option(help="Diffusion model: a folder in the format of diffusers, or owner/name of the hub."),
    ] = DIFFUSION,
    steps: Annotated[int, typer.Option(min=1, max=10_000_000, help="Steps of Adam.")] = 2000,
    batch: Annotated[int, typer.Option(min=1, max=1024, help="Scenes per step.")] = 4,
    learning_rate: Annotated[float, typer.Option(min=0, max=1, help="Learning rate of Adam.")] = 5e-4,
    guidance: Annotated[
        float, typer.Option(min=0, max=1000, help="Scale of classifier-free guidance; 1 = none.")
    ] = 100.0,
    keep: Annotated[
        float, typer.Option(min=0, max=1e6, help="Weight of the distance to the model's images from its own cameras.")
    ] = 10.0,
    timesteps: Annotated[
        Literal["uniform", "annealed"], typer.Option(help="Noise levels: random, or falling over the steps.")
    ] = "uniform",
    views: Annotated[
        bool, typer.Option("--views/--no-views", help="Add front view, side view or back view to the prompt.")
    ] = True,
    size: options.SizeOption = None,
    seed: Annotated[int, typer.Option(min=0, max=2**62, help="Seed of scenes, views and noise.")] = 0,
    device: options.DeviceOption = "auto",
    out: Annotated[Path, typer.Option(help="Folder for the refined model.")] = Path("results/refined"),
) -> None:
    """Fine-tune a copy of a model with score distillation from a 2D diffusion model, so that views from the sides and
    from the back look like the prompt, too. The same command run again continues from the last saved state.
    docs/beyond.md describes the method.

    \b
    Example:
      threedgp refine results/model --prompt "a photo of a {class}" --out results/refined
      threedgp fly results/refined --path orbit
    """
    import shutil

    import torch

    from threedgp.api import open_model
    from threedgp.commands.model_card import RUN
    from threedgp.fetch.weights import find_model
    from threedgp.models.loading import read_model_config
    from threedgp.models.refinement import Diffusion, Refinement, Settings, require_diffusers
    from threedgp.models.saving import CONFIG, write_model
    from threedgp.runtime.atomic import remove
    from threedgp.runtime.progress import progress
    from threedgp.runtime.targets import writing
    from threedgp.training.checkpoints import load_newest, save_state

    opened = open_model(model, device)
    opened.require_density("a refinement")
    require_diffusers()
    if "{class}" in prompt and not opened.class_names:
        raise UserError("--prompt: this model has no classes; write a prompt without {class}.")
    rates = dict(learning_rate=learning_rate, guidance=guidance, keep=keep, timesteps=timesteps, views=views)
    settings = Settings(prompt, steps, batch, **rates, size=size or opened.resolution, seed=seed)
    about = {key: opened.config.get(key) for key in ("resolution", "class_names", "seed", "kimg", "dataset")}
    note = {"model": opened.sha256, "diffusion": diffusion, **settings._asdict()}
    about["refined"] = [*(opened.config.get("refined") or []), note]

    if (out / CONFIG).is_file():
        if read_model_config(out).get("refined") != about["refined"]:
            raise UserError(f"--out: {out} holds another model; choose another folder, or remove it.")
        print(f"{out}: the model was refined with these settings already.")
        return
    with writing(out, "--out"):
        (out / STATES).mkdir(parents=True, exist_ok=True)
    first, state = load_newest(out / STATES, torch.device("cpu")) or (0, None)
    if state and state["about"] != about:
        raise UserError(f"--out: {out} holds a refinement with other settings; choose another folder, or remove it.")
    teacher = Diffusion(find_model(diffusion, key="--diffusion", pipeline=True), opened.generator.device)
    work = Refinement(opened.generator, teacher, opened.class_names, settings)
    if state:
        work.load_state_dict(state["work"])

    with progress("refine", steps, unit="steps", done=first) as bar:
        for number in range(first, steps):
            distilled, kept = work.step(number)
            bar.note(f"distillation {distilled:.3g}, distance of kept images {kept:.3g}")
            bar.advance()
            if (number + 1) % SAVE_STEPS == 0:
                save_state(out / STATES, number + 1, {"about": about, "work": work.state_dict()}, keep=1)
    if (model / RUN).is_file():
        shutil.copyfile(model / RUN, out / RUN)
    write_model(out, work.refined, **about)
    remove(out / STATES)
    print(f"{out} now holds the refined model; `threedgp fly {out} --path orbit` shows it from all sides.")
