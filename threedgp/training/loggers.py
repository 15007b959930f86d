"""Loggers that write the curves for other tools while training runs: DVCLive for `dvc plots`, TensorBoard, wandb."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import numpy as np
from torch import Tensor

from threedgp.config import CameraConfig, Config
from threedgp.runtime.errors import UserError, disk_is_full
from threedgp.runtime.progress import say
from threedgp.training.logging import FIELDS, Logger, Record, bin_edges, no_log


@contextmanager
def dvclive(folder: Path, camera: CameraConfig) -> Iterator[Logger]:
    """A logger that writes DVCLive's curves into an empty folder, if it is installed, and the newest histograms.

    The Frechet distance is logged under a name that is the same for all networks, as ``dvc.yaml`` has it.
    """
    try:
        from dvclive import Live
    except ImportError:
        yield no_log
        return
    shutil.rmtree(folder, ignore_errors=True)
    try:
        live = Live(str(folder), dvcyaml=None, save_dvc_exp=False, report=None, monitor_system=False)
    except Exception as error:  # it asks for the user's name and home folder, which a container may lack
        if disk_is_full(error):
            raise
        say(f"train: no curves for `dvc plots`, since DVCLive cannot start: {error}")
        yield no_log
        return
    edges = bin_edges(camera)

    def log(record: Record, cameras: Tensor | None = None) -> None:
        live.step = round(record["kimg"], 3)
        for name, value in record.items():
            if name != "kimg":
                live.log_metric(re.sub("^distance/(fd|fid)_.*", "distance/frechet", name), value)
        for field, counts in zip(FIELDS, [] if cameras is None else cameras.tolist(), strict=False):
            middles = (edges[field][1:] + edges[field][:-1]) / 2
            points = [{field: float(at), "cameras": count} for at, count in zip(middles, counts, strict=True)]
            live.log_plot(f"camera_{field}", points, x=field, y="cameras", template="linear", title=f"learned {field}")
        live.make_summary()

    yield log


@contextmanager
def tensorboard(folder: Path, config: Config) -> Iterator[Logger]:
    """A logger that writes event files to ``tensorboard`` in `folder`: scalars and histograms of the learned
    cameras, by the number of images. Raises UserError if the package is missing."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise _missing("tensorboard") from None
    shutil.rmtree(folder / "tensorboard", ignore_errors=True)
    edges = bin_edges(config.camera)
    with SummaryWriter(str(folder / "tensorboard")) as writer:

        def log(record: Record, cameras: Tensor | None = None) -> None:
            step = round(1000 * record["kimg"])
            for name, value in record.items():
                writer.add_scalar(name, value, step, new_style=True)
            for field, counts in zip(FIELDS, [] if cameras is None else cameras.numpy(), strict=False):
                middles = (edges[field][1:] + edges[field][:-1]) / 2
                if counts.any():
                    writer.add_histogram(f"camera/{field}", np.repeat(middles, counts), step, bins=edges[field])
            writer.flush()

        yield log


@contextmanager
def wandb(folder: Path, config: Config) -> Iterator[Logger]:
    """A logger that writes a run of Weights & Biases to ``wandb`` in `folder`, offline unless WANDB_MODE says
    otherwise. Raises UserError if the package is missing or its service refuses."""
    try:
        import wandb
    except ImportError:
        raise _missing("wandb") from None
    shutil.rmtree(folder / "wandb", ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        run = wandb.init(
            project="threedgp",
            config={name: getattr(config, name).model_dump(mode="json") for name in ("camera", "model", "train")},
            dir=str(folder),
            mode=os.environ.get("WANDB_MODE", "offline"),
            settings=wandb.Settings(symlink=False, console="off", silent=True),
        )
    except wandb.Error as error:
        raise UserError(f"train.loggers: wandb cannot start ({error}); WANDB_MODE=offline needs no account.") from None
    try:
        run.define_metric("*", step_metric="kimg")
        yield lambda record, cameras=None: run.log(record)
    finally:
        run.finish()
        wandb.teardown()  # otherwise the file is written some time later
        for path in (folder / "wandb").rglob("*.log"):
            if path.is_symlink():  # to a log of the service, outside of the project
                path.unlink()


def _missing(name: str) -> UserError:
    return UserError(
        f"train.loggers: '{name}' needs the package {name}; run `pip install 'threedgp[{name}]'`, or remove it from "
        "the list."
    )


LOGGERS: dict[str, Callable[[Path, Config], AbstractContextManager[Logger]]] = {
    "tensorboard": tensorboard,
    "wandb": wandb,
}
"""Loggers that `train.loggers` can name, beside DVCLive."""


class RunLogs:
    """The logs of a run in one folder. `open` starts all of them empty; leaving the context closes them."""

    def __init__(self, folder: Path, config: Config) -> None:
        self._folder, self._config = folder, config
        self._opened = ExitStack()

    def open(self) -> Logger:
        """A logger that writes to DVCLive and to what `train.loggers` names, all of them empty."""
        self._opened.close()
        logs = [self._opened.enter_context(dvclive(self._folder, self._config.camera))]
        logs += [
            self._opened.enter_context(LOGGERS[name](self._folder, self._config)) for name in self._config.train.loggers
        ]

        def log(record: Record, cameras: Tensor | None = None) -> None:
            for one in logs:
                one(record, cameras)

        return log

    def __enter__(self) -> RunLogs:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()
