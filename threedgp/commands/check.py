"""``threedgp check``: validates params.yaml before anything runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from threedgp.commands.options import PARAMS, ParamsOption
from threedgp.commands.preset import default_values
from threedgp.config import batch_problem, load_config
from threedgp.config.reading import read_yaml
from threedgp.needs.data import missing_pictures
from threedgp.needs.weights import missing_path, networks
from threedgp.runtime.errors import UserError


def check(params: ParamsOption = PARAMS) -> None:
    """Validate params.yaml, and that the data and weights it names exist, before anything runs."""
    config = load_config(params)
    missing = missing_keys(read_yaml(params.read_bytes(), str(params)))
    if missing:
        raise UserError(f"{params}: key '{missing[0]}' is missing; DVC tracks the keys of the file, so add it.")
    batch = batch_problem(config, config.machine.processes)
    batch = batch and f"{batch}; stage train cannot run with this machine.processes, so change it or the batch size"
    for problem in (missing_pictures(config), *map(missing_path, networks(config)), batch):
        if problem:
            raise UserError(f"{params}: {problem}.")
    data = config.dataset
    print(
        f"{params} is valid: data set {data.name} ({data.source}, {data.resolution} px), "
        f"{config.train.kimg:g} thousand images of training."
    )


def missing_keys(values: dict[str, Any]) -> list[str]:
    """Dotted keys of the schema that the content of a params file lacks, except section ``machine``."""
    expected = {key: value for key, value in default_values().items() if key != "machine"}
    return list(_missing(expected, values))


def _missing(expected: dict[str, Any], values: dict[str, Any], path: str = "") -> Iterator[str]:
    for key, value in expected.items():
        if key not in values:
            yield path + key
        elif isinstance(value, dict):
            yield from _missing(value, values[key], f"{path}{key}.")
