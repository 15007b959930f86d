"""Trained generators: on this machine, on the Hugging Face hub, or on a web server."""

from __future__ import annotations

import re
from pathlib import Path

import filelock

from threedgp.fetch import hub
from threedgp.fetch.download import download
from threedgp.fetch.remote import Remote
from threedgp.fetch.weights import find_weights
from threedgp.runtime.errors import UserError

HUB_MODEL = re.compile(r"hf:/{1,2}(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?", re.ASCII)
"""`pathlib` makes one slash of two."""
WEIGHTS, CONFIG = "model.safetensors", "config.json"
WEB_ADDRESS = re.compile(r"https?://", re.IGNORECASE)


def download_model_folder(given: str) -> Path:
    """Local folder with the model that `given` names. It is cached: a second call downloads only what has changed.

    Args:
        given: `hf://owner/name`, a repository of the hub, or `hf://owner/name@revision`; or the URL of a
            `model.safetensors` that has a `config.json` beside it, where `...#sha256=...` states the checksum of the
            weights, which `threedgp info` prints.

    Raises:
        UserError: there is no such model, it cannot be downloaded, or its checksum is wrong.
    """
    if not WEB_ADDRESS.match(given):
        found = HUB_MODEL.fullmatch(given)
        if found is None:
            raise UserError(f"{given}: not a model of the hub; write hf://owner/name or hf://owner/name@revision.")
        return hub.download_model(found["repo"], revision=found["revision"])
    address = given.partition("#")[0]
    if not address.endswith(f"/{WEIGHTS}"):
        raise UserError(f"{given}: not the address of a model; it has to end in /{WEIGHTS}, with a {CONFIG} beside it.")
    folder = find_weights(given, key="model").parent
    with filelock.FileLock(folder / f".{CONFIG}.lock"):
        if not (folder / CONFIG).is_file():
            config = Remote(CONFIG, address.removesuffix(WEIGHTS) + CONFIG)
            download(config, folder, title=f"download {CONFIG}")
    return folder
