"""Which weights the settings need, and where they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from threedgp.config import Config
from threedgp.config.choices import names
from threedgp.depth.estimator import get_estimator
from threedgp.fetch import table
from threedgp.needs.finding import Finding
from threedgp.needs.weights import missing_path, networks, weights_findings

Settings = Callable[..., Config]


def found(config: Config) -> dict[str, Finding]:
    return {finding.what: finding for finding in weights_findings(config)}


def keys(config: Config) -> list[str]:
    return [network.key for network in networks(config)]


def test_published_settings_need_four_networks(settings: Settings) -> None:
    assert keys(settings()) == ["features.weights", "embed.weights", "depth.weights", "evaluate.neighbor_weights"]


@pytest.mark.parametrize(
    ("sections", "without"),
    [
        ({"features": {"network": "efficientnet_lite0"}}, "features.weights"),
        ({"embed": {"network": "efficientnet_lite0"}}, "embed.weights"),
        ({"embed": {"network": "none"}, "train": {"distillation": {"loss": "none"}}}, "embed.weights"),
        ({"depth": {"estimator": "sidecar"}}, "depth.weights"),
        ({"evaluate": {"metrics": ["frechet", "neighbors"]}}, "evaluate.neighbor_weights"),
        ({"evaluate": {"neighbor_network": "features"}}, "evaluate.neighbor_weights"),
    ],
)
def test_what_is_not_used_needs_no_weights(settings: Settings, sections: dict[str, object], without: str) -> None:
    assert without not in keys(settings(**sections)) and without in keys(settings())


def test_the_metrics_of_vgg16_are_those_that_evaluate_gives_it() -> None:
    from threedgp.config.results import METRICS
    from threedgp.evaluation.measuring import load_metrics
    from threedgp.needs.weights import BY_VGG16

    assert BY_VGG16 == {name for name, metric in load_metrics(METRICS).items() if metric.role == "neighbor"}


def test_what_will_be_fetched_says_from_where_how_much_and_under_which_licence(settings: Settings) -> None:
    lines = {what: finding.found for what, finding in found(settings()).items()}
    assert all(finding.fine for finding in found(settings()).values())
    leres = lines["Weights of leres"]
    assert leres.startswith("will be fetched from https://") and "res101.pth (licence: research only" in leres
    assert table.WEIGHTS["inception"].file.url in lines["Weights of inception"]
    assert "553,433,881 bytes" in lines["Weights of vgg16"]
    embed = lines["Weights of resnet50.ram_in1k"]
    assert "https://huggingface.co/timm/resnet50.ram_in1k (licence: apache-2.0)" in embed
    mirrored = found(settings(machine={"mirror": "/mnt/mirror"}))["Weights of leres"].found
    assert "looked for in /mnt/mirror first" in mirrored


@pytest.mark.parametrize("estimator", ["zoedepth", "depth_anything_v2", "dpt", "depth_pro", "moge", "depth_anything_3"])
def test_depth_models_of_the_hub(settings: Settings, estimator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    lines = found(settings(depth={"estimator": estimator}))
    weights = lines[f"Weights of {estimator}"]
    kind = get_estimator(estimator)
    assert f"https://huggingface.co/{kind.weights} (licence: {kind.license})" in weights.found
    (package,) = [finding for what, finding in lines.items() if what.startswith("Package ")]
    assert package.needed and not package.fine and "pip install" in package.advice


def test_every_estimator_is_known(settings: Settings) -> None:
    for estimator in names("threedgp.depth.estimators"):
        if estimator not in ("none", "sidecar", "simulated"):
            assert f"Weights of {estimator}" in found(settings(depth={"estimator": estimator}))


def test_paths(settings: Settings, tmp_path: Path) -> None:
    """A file where a file is wanted, a folder with a configuration where a model is."""
    for sections, make in (
        ({"depth": {"estimator": "leres", "weights": "own.pth"}}, lambda: Path("own.pth").touch()),
        ({"depth": {"estimator": "dpt", "weights": "./own"}}, lambda: make_model(Path("own"))),
        ({"features": {"weights": f"file://{tmp_path}/inception.pth"}}, lambda: Path("inception.pth").touch()),
        ({"evaluate": {"neighbor_weights": "sub/vgg.pth"}}, lambda: touch(Path("sub/vgg.pth"))),
    ):
        config, ((section, values),) = settings(**sections), sections.items()
        (network,) = [one for one in networks(config) if one.given]
        problem = missing_path(network)
        assert problem is not None and problem.startswith(f"{section}.") and str(list(values.values())[-1]) in problem
        line = found(config)[f"Weights of {network.name}"]
        assert line.needed and not line.fine and line.advice == problem
        make()
        assert missing_path(network) is None
        assert found(config)[f"Weights of {network.name}"].fine


def touch(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.touch()


def make_model(folder: Path) -> None:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")


@pytest.mark.parametrize("given", ["owner/repo", "owner/repo:file.pth", "https://example.org/w.pth?x=secret"])
def test_addresses_and_hub_ids_are_no_missing_paths(settings: Settings, given: str) -> None:
    config = settings(depth={"estimator": "leres", "weights": given})
    (network,) = [one for one in networks(config) if one.given]
    assert missing_path(network) is None
    line = found(config)["Weights of leres"]
    assert line.fine and "will be fetched from https://" in line.found and "secret" not in line.found


def test_downloaded_weights_are_found(settings: Settings, tmp_path: Path) -> None:
    entry = table.WEIGHTS["inception"].file
    folder = tmp_path / "cache/weights/inception-6726825d"
    folder.mkdir(parents=True)
    (folder / f".{entry.name}.part").write_bytes(b"123")
    assert "will be fetched" in found(settings())["Weights of inception"].found
    (folder / entry.name).write_bytes(b"12345")
    assert found(settings())["Weights of inception"].found == str(folder / entry.name)


def test_models_in_the_cache_of_the_hub_are_found(settings: Settings, tmp_path: Path) -> None:
    repository, commit = tmp_path / "hub_cache/models--Intel--dpt-large", "0" * 40
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text(commit)
    (repository / "snapshots").mkdir()
    make_model(repository / "snapshots" / commit)
    weights = repository / "snapshots" / commit / "model.safetensors"
    assert found(settings(depth={"estimator": "dpt"}))["Weights of dpt"].found == str(weights.parent)
    leres = found(settings(depth={"weights": "Intel/dpt-large:model.safetensors"}))["Weights of leres"]
    assert leres.found == str(weights)
    weights.unlink()
    assert "will be fetched" in found(settings(depth={"estimator": "dpt"}))["Weights of dpt"].found


def test_network_that_timm_does_not_have(settings: Settings) -> None:
    line = found(settings(embed={"network": "resnet51"}))["Weights of resnet51"]
    assert line.needed and not line.fine and line.advice.startswith("embed.weights: timm names no weights")


@pytest.mark.parametrize("given", ["https://host:abc/x.pth", "https://[x/x.pth", "ftp://host/x.pth", "~nouser/x.pth"])
@pytest.mark.parametrize("estimator", ["leres", "dpt"])
def test_what_can_be_no_weights(settings: Settings, estimator: str, given: str) -> None:
    config = settings(depth={"estimator": estimator, "weights": given})
    (network,) = [one for one in networks(config) if one.given]
    problem = missing_path(network)
    assert problem is not None and problem.startswith("depth.weights: ") and given in problem
    assert found(config)[f"Weights of {estimator}"].advice == problem


def test_mirror_that_is_not_there(settings: Settings, tmp_path: Path) -> None:
    line = found(settings(machine={"mirror": "~nouser"}))["Mirror"]
    assert line.needed and not line.fine and line.advice.startswith("machine.mirror: there is no folder '~nouser'")
    assert "Mirror" not in found(settings(machine={"mirror": str(tmp_path)}))
