"""Stage `embed`: classifier features of the selected images, which the discriminator learns to predict."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import typer

from stages.harness import ParamsOption, open_stage, share_work
from stages.layout import Layout
from threedgp.config import Config

app = typer.Typer(add_completion=False)


def _work(should_stop: Callable[[], bool], config: Config, layout: Layout, scratch: Path) -> None:
    """Compute the share of this process; finished shards are kept when it is stopped."""
    from threedgp.data.shards import ShardFolder
    from threedgp.features.extraction import write_embeddings
    from threedgp.features.network import configured_extractor
    from threedgp.runtime.device import choose_device
    from threedgp.runtime.processes import join_group

    settings, machine = config.embed, config.machine
    with join_group() as group:
        extractor = None
        if settings.network != "none":
            with group.main_process_first():  # it downloads the weights
                extractor = configured_extractor(settings, choose_device(machine.device), machine.mirror)
        prepared, selected = ShardFolder(layout.prepared), ShardFolder(layout.selected)
        folder = scratch / "embed"
        write_embeddings(prepared, selected, extractor, settings.batch_size, folder, machine.workers, group)


@app.command()
def main(params: ParamsOption = Path("params.yaml")) -> None:
    """Compute the features for knowledge distillation, into data/<dataset>/embed.

    Writes one float16 vector per selected image, or none if `embed.network` is none. A stopped run resumes with the
    first missing shard. The shards are shared by machine.processes (or torchrun) processes, one per GPU; the result
    does not depend on their number.
    """
    with open_stage("embed", params, shared=True) as stage:
        share_work(stage, _work)
        if stage.is_main:
            stage.publish(stage.scratch / "embed", stage.layout.embed)


if __name__ == "__main__":
    app()
