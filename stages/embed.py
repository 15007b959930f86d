"""Stage `embed`: classifier features of the selected pictures, which the discriminator learns to predict."""

from __future__ import annotations

from pathlib import Path

import typer

from stages.harness import ParamsOption, open_stage

app = typer.Typer(add_completion=False)


@app.command()
def main(params: ParamsOption = Path("params.yaml")) -> None:
    """Compute the features that training distils, into data/<dataset>/embed.

    Reads the prepared pictures and the ids that were selected; writes one float16 vector for each of them, or none
    where `embed.network` is none. A stopped run goes on with the first shard that is missing.
    """
    from threedgp.data.shards import ShardFolder
    from threedgp.device import choose_device
    from threedgp.features.extraction import write_embeddings
    from threedgp.features.registry import build_extractor

    with open_stage("embed", params) as stage:
        settings, layout = stage.config.embed, stage.layout
        extractor = None
        if settings.network != "none":
            device = choose_device(stage.config.machine.device)
            extractor = build_extractor(settings.network, input_size=settings.input_size, device=device)
        folder = stage.scratch / "embed"
        write_embeddings(
            ShardFolder(layout.prepared), ShardFolder(layout.selected), extractor, settings.batch_size, folder
        )
        stage.publish(folder, layout.embed)


if __name__ == "__main__":
    app()
