"""``threedgp check``: validates params.yaml before anything runs."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

from threedgp.commands.dvc_files import REPAIR, damaged_files
from threedgp.commands.options import PARAMS, ParamsOption
from threedgp.commands.requirements import (
    count_problem,
    freeze_problem,
    images_problem,
    memory_problem,
    package_problem,
    required_weights,
    start_problem,
    token_problem,
)
from threedgp.commands.scratch import SCRATCH
from threedgp.config import batch_problem, load_config
from threedgp.runtime.addresses import mirror_problem
from threedgp.runtime.errors import UserError
from threedgp.runtime.targets import try_writing, writing


def check(params: ParamsOption = PARAMS) -> None:
    """Validate params.yaml, and that its images, weights and packages are there, before anything runs."""
    if damaged := damaged_files():
        raise UserError(f"{damaged[0]}: {REPAIR}.")
    for folder in (Path("data"), Path("results"), SCRATCH):
        with writing(folder, "check"):
            try_writing(folder)
    config = load_config(params, complete=True)
    batch = batch_problem(config, config.machine.processes)
    batch = batch and f"{batch}; stage train cannot run with this machine.processes, so change it or the batch size"
    tests = (images_problem, token_problem, package_problem, count_problem, start_problem, freeze_problem)
    problems = chain(
        (test(config) for test in tests),
        [mirror_problem(config.machine.mirror)],
        (weights.problem() for weights in required_weights(config)),
        [batch, memory_problem(config)],
    )
    if problem := next(filter(None, problems), None):
        raise UserError(f"{params}: {problem}.")
    data = config.dataset
    print(
        f"{params} is valid: data set {data.name} ({data.source}, {data.resolution} px), "
        f"{config.train.kimg:g} thousand images of training."
    )
