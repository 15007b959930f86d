"""Declarations of all metrics: complete, unambiguous, and shown in the documentation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from threedgp.config.results import METRICS
from threedgp.evaluation.measuring import FACTS, load_metrics
from threedgp.metrics._declaration import BACKGROUND, BLURRED, FLAT, OTHER_HALF, UNTRAINED, Value

DECLARED = load_metrics(METRICS)
VALUES = [(metric, value) for metric in DECLARED.values() for value in metric.values]


def table() -> str:
    """The table of docs/metrics.md."""
    lines = ["| `evaluate.metrics` | number | description | better |", "|---|---|---|---|"]
    for name, metric in DECLARED.items():
        for value in metric.values:
            number = f"`{(value.published or value.key) + value.suffix}`"
            unit = f" In {value.unit}." if value.unit else ""
            lines.append(f"| `{name}` | {number} | {value.description}{unit} | {value.better or ''} |")
    return "\n".join(lines) + "\n"


def test_table_of_the_documentation(root: Path) -> None:
    assert table() in (root / "docs" / "metrics.md").read_text(encoding="utf-8")


def test_inputs_are_documented(root: Path) -> None:
    documented = re.findall(r"`(\w+)`", (root / "threedgp" / "evaluation" / "evaluation.py").read_text())
    for name, metric in DECLARED.items():
        assert set(metric.needs) <= set(documented), name


@pytest.mark.parametrize("network", ["inception", "vgg16", "other"])
def test_no_two_numbers_share_a_name_or_a_column(network: str) -> None:
    sets = ["", *(f"_{name}" for name in (UNTRAINED, OTHER_HALF, BLURRED, BACKGROUND, FLAT, "prior", "real"))]
    names = [value.name(network, metric.role) + end for metric, value in VALUES for end in sets]
    assert len(names) == len(set(names))
    columns = [value.column for _, value in VALUES if value.column is not None] + [*FACTS.values()]
    assert len(columns) == len(set(columns))


def test_titles_with_a_network_belong_to_values_with_a_published_name() -> None:
    for metric, value in VALUES:
        assert value.description.endswith(".")
        if value.published:
            assert metric.role, value.key
        if "{network}" in value.title:
            assert value.published, value.key


def test_only_the_published_network_has_the_published_name() -> None:
    fid, precision = Value("fd", "", "", "lower", published="fid"), Value("p", "", "", "lower", published="p")
    assert fid.name("inception", "main") == "fid"
    assert fid.name("vgg16", "main") == "fd_vgg16"
    assert precision.name("vgg16", "neighbor") == "p"
    assert precision.name("inception", "neighbor") == "p_inception"
    assert Value("fd", "", "", None, published="fid", suffix="_std").name("net", "main") == "fd_net_std"
