"""Stage `features`: classifier features of every prepared picture, and the statistics of the real set."""

from __future__ import annotations

from pathlib import Path

import typer

from stages.harness import ParamsOption, open_stage

app = typer.Typer(add_completion=False)


@app.command()
def main(params: ParamsOption = Path("params.yaml")) -> None:
    """Compute the features that selection and the Frechet distance rest on, into data/<dataset>/features.

    Reads the prepared pictures; writes one feature vector a picture, and count, mean and covariance of the whole set.
    A stopped run goes on with the first shard that is missing.
    """
    from threedgp.data.shards import ShardFolder
    from threedgp.device import choose_device
    from threedgp.features.extraction import write_features
    from threedgp.features.registry import build_extractor

    with open_stage("features", params) as stage:
        settings = stage.config.features
        extractor = build_extractor(
            settings.network,
            input_size=settings.input_size,
            weights=settings.weights,
            device=choose_device(stage.config.machine.device),
        )
        folder = stage.scratch / "features"
        write_features(ShardFolder(stage.layout.prepared), extractor, settings.batch_size, folder)
        stage.publish(folder, stage.layout.features)


if __name__ == "__main__":
    app()
