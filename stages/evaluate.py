"""Stage `evaluate`: how far the model's pictures, depth and cameras are from the real ones, beside controls."""

from __future__ import annotations

from pathlib import Path

import typer

from stages.harness import ParamsOption, Stage, open_stage

app = typer.Typer(add_completion=False)


@app.command()
def main(params: ParamsOption = Path("params.yaml")) -> None:
    """Measure the model, into results/metrics.json and results/evaluation.

    Generates `evaluate.samples` scenes with the trained and with the untrained model and compares them, and controls
    that need no model, with the prepared pictures; compares depth and cameras where the source knows the truth. A
    stopped run keeps the scenes and features that are done.
    """
    with open_stage("evaluate", params) as stage:
        evaluate(stage)


def evaluate(stage: Stage) -> None:
    """The work of the stage, in the order of its cost."""
    from threedgp.atomic import write_json
    from threedgp.data.shards import ShardFolder
    from threedgp.data.sources.registry import open_source
    from threedgp.device import choose_device
    from threedgp.features.extraction import STATISTICS, statistics_key
    from threedgp.features.moments import Moments
    from threedgp.features.registry import build_extractor
    from threedgp.metrics import evaluation, exhibits, swd
    from threedgp.metrics.camera_emd import camera_distances
    from threedgp.metrics.fakes import frontal_depth, generate
    from threedgp.metrics.nfs import non_flatness
    from threedgp.metrics.reals import RealSet, split_halves
    from threedgp.models.saving import load_model, load_untrained, read_model_config

    config, layout, settings, scratch = stage.config, stage.layout, stage.config.evaluate, stage.scratch
    resolution, seed = config.dataset.resolution, settings.seed
    device = choose_device(config.machine.device)
    extractor = build_extractor(
        config.features.network,
        input_size=config.features.input_size,
        weights=config.features.weights,
        device=device,
    )
    prepared, features = ShardFolder(layout.prepared), ShardFolder(layout.features)
    statistics = Moments.load(layout.features / STATISTICS, statistics_key(prepared, extractor.identity))
    source = open_source(config.dataset, layout.raw)
    halves = split_halves(prepared, min(settings.samples, swd.MOST_PICTURES), seed)
    reference, other = (RealSet(prepared, source, layout.raw, rows) for rows in halves)

    generators = {
        evaluation.MODEL: load_model(layout.model, device),
        evaluation.UNTRAINED: load_untrained(layout.model, device),
    }
    fakes = {
        name: generate(
            generator,
            settings.samples,
            seed,
            resolution,
            batch_size=settings.batch_size,
            folder=scratch / name,
            label=f"evaluate: {name}",
        )
        for name, generator in generators.items()
    }
    pictures = evaluation.picture_contest(reference, other, fakes, scratch)
    metrics = evaluation.swd_metrics("swd", pictures, seed)
    metrics |= evaluation.frechet_metrics(
        pictures,
        extractor,
        statistics,
        features,
        other,
        batch_size=config.features.batch_size,
        scratch=scratch,
    )
    scores = {}
    for name, generator in generators.items():
        depth = frontal_depth(generator, settings.nfs_samples, seed, resolution, settings.batch_size)
        camera = generator.camera_config
        scores[name] = float(non_flatness(depth, camera.ray_start, camera.ray_end).mean())
    metrics |= evaluation.named("nfs", scores)
    scenes = fakes[evaluation.MODEL]
    cameras = {"learned": scenes.cameras("camera"), "prior": scenes.cameras("prior")}
    if reference.knows_truth():
        metrics |= evaluation.swd_metrics("depth_swd", evaluation.depth_contest(reference, other, fakes), seed)
        cameras["true"] = reference.true_cameras()
        distances = camera_distances(cameras["learned"], cameras["prior"], cameras["true"])
        # One number a parameter, so that a table of experiments stays readable; means and spreads go to the report.
        metrics |= {f"camera_emd_{parameter}": row["emd"] for parameter, row in distances.items()}
        write_json(scratch / "evaluation" / "camera_distances.json", evaluation.rounded(distances))
    metrics |= {
        "samples": settings.samples,
        "kimg": read_model_config(layout.model)["kimg"],
        f"fd_{extractor.name}_distilled": config.embed.network == config.features.network,
    }

    metrics = evaluation.rounded(metrics)
    exhibits.write_controls(scratch / "evaluation" / "controls.json", metrics)
    exhibits.write_cameras(scratch / "evaluation" / "cameras.tsv", cameras)
    exhibits.write_machine(scratch / "evaluation" / "machine.json", device)
    exhibits.write_strips(scratch / "evaluation", pictures)
    write_json(scratch / "metrics.json", metrics)
    stage.publish(scratch / "evaluation", layout.evaluation)
    stage.publish(scratch / "metrics.json", layout.metrics)


if __name__ == "__main__":
    app()
