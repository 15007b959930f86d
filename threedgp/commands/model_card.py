"""The model card: a README for the Hugging Face hub, generated from a model and the run that it comes from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import yaml

from threedgp.commands.requirements import LITE0_PACKAGE, Weights
from threedgp.config.train import INITIALIZATION
from threedgp.depth.estimator import NetworkKind, get_estimator
from threedgp.runtime.errors import UserError
from threedgp.visual.verdicts import judged

RUN = "run.json"
"""In a model folder: settings and data of the run, as stage `train` writes them."""


class Used(NamedTuple):
    """Pretrained weights that a model learned from."""

    purpose: str
    origin: str
    license: str
    """Empty if it is unknown."""


def read_run(folder: Path) -> dict[str, Any]:
    """Content of a model folder's ``run.json``, with `settings` and `data`; both are empty without the file. Raises
    UserError if it is damaged."""
    file = folder / RUN
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {name: dict(content[name]) for name in ("settings", "data")}
    except FileNotFoundError:
        return {"settings": {}, "data": {}}
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{file}: not the record of a training run; restore the file or remove it.") from None


def read_evaluation(results: Path, sha256: str) -> tuple[list[dict[str, Any]], dict[str, Any]] | None:
    """Values with their controls, and metrics.json, of the evaluation in the folder of results; None if there is none,
    or it measured other weights than those with this checksum."""
    folder = results / "evaluation"
    try:
        if json.loads((folder / "model.json").read_text(encoding="utf-8"))["sha256"] != sha256:
            return None
        comparisons = json.loads((folder / "comparisons.json").read_text(encoding="utf-8"))
        return judged(comparisons), json.loads((results / "metrics.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{folder}: the evaluation is damaged; run `dvc repro evaluate` again.") from None


def teachers(config: Mapping[str, Any], run: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Depth estimator and classifier that training learned from; None = none, or unknown. The data may have depth and
    classifier features that training did not use."""
    data, model = run["data"], config["model"]
    uses_depth = model.get("depth", True) or config["camera"].get("prior") == "estimated"
    distills = run["settings"].get("train", {}).get("distillation", {}).get("loss") != "none"
    return data.get("estimator") if uses_depth else None, data.get("embedder") if distills else None


def used_weights(config: Mapping[str, Any], run: Mapping[str, Any]) -> list[Used]:
    """The pretrained weights that training used, as far as the run is recorded, and those of refinements; licenses are
    those of the default weights."""
    found = [Used("refinement", one["diffusion"], "") for one in config.get("refined") or []]
    (estimator, embedder), features = teachers(config, run), run["settings"].get("features.network")
    if estimator is not None:
        kind = get_estimator(estimator)
        if isinstance(kind, NetworkKind):
            found.append(Used("depth of the training images", *Weights(estimator, "", None, kind).origin()))
    purposes = {"distillation": embedder, "selection of images and of the best model": features}
    for purpose, network in purposes.items():
        if network == "efficientnet_lite0":
            found.append(Used(purpose, f"package {LITE0_PACKAGE}", ""))
        elif network not in (None, "none"):
            found.append(Used(purpose, *Weights(network, "", None).origin()))
    return found


def refinements(config: Mapping[str, Any]) -> str | None:
    """Description of the refinements of a model; None without any."""
    steps = [
        f"{one['steps']:,} steps of score distillation from {one['diffusion']}, prompt '{one['prompt']}'"
        for one in config.get("refined") or []
    ]
    return "; ".join(steps) or None


def facts_of(config: Mapping[str, Any], run: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, str]:
    """Description of the training, by title; what is unknown is left out."""
    data, settings, kimg = run["data"], run["settings"], config.get("kimg")
    train, (estimator, embedder) = settings.get("train", {}), teachers(config, run)
    facts = {
        "kind of model": config["model"]["kind"],
        "data set": config.get("dataset"),
        "training images": f"{data['rows']:,}, after selection" if "rows" in data else None,
        "depth of the images": estimator,
        "classifier features": embedder,
        "images shown": None if kimg is None else f"{kimg:g} thousand",
        "batch, loss": f"{train['batch_size']}, {train['loss']}" if train else None,
        "learning rates": f"{train['generator_lr']:g} (generator), {train['discriminator_lr']:g}" if train else None,
        "refined": refinements(config),
        "started from": start if (start := train.get("init_from")) != INITIALIZATION else None,
        "seed": str(config["seed"]),
        "speed": f"{metrics['images_per_second']:.3g} images per second" if "images_per_second" in metrics else None,
        "cost": f"{metrics['gpu_days']:.3g} GPU days" if metrics.get("gpu_days") else None,
    }
    return {name: value for name, value in facts.items() if value is not None}


def model_card(title: str, repo: str, **about: Any) -> str:
    """The card as Markdown with a header of metadata. `about` holds the other variables of ``model_card.md.j2``."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("threedgp.commands", "."),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # the card is Markdown
    )
    environment.filters["cell"] = lambda text: " ".join(str(text).replace("|", "\\|").split())
    settings = about.pop("settings")
    text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True) if settings else ""
    return environment.get_template("model_card.md.j2").render(title=title, repo=repo, settings=text, **about)
