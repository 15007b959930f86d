"""Measured values beside their controls, and what the comparison says in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from threedgp.visual.charts import bar_chart

MODEL = "model"
SETS = {
    MODEL: "this model",
    "untrained": "the same model untrained",
    "other_half": "other half of the real set",
    "real": "real images",
    "prior": "the prior",
    "blurred": "real set, blurred",
    "background": "backgrounds without objects",
    "flat": "a flat plane",
}
"""Measured sets, and what the page calls them."""
FLOORS = {"untrained": "untrained", "background": "backgrounds", "flat": "a flat plane", "prior": "the prior"}
"""Controls that a model must exceed, and how a verdict names them."""
HEADLINE = (
    ("fid", "fd"),
    ("recall",),
    ("class_diversity",),
    ("class_accuracy",),
    ("depth_swd", "nfs", "depth_levels"),
    ("camera_emd",),
)
"""Values of the headline: of each group the first that was measured. A network may follow the name."""


class Verdict(NamedTuple):
    """How the model compares with some of the controls."""

    word: str
    """`better`, `worse` or `equal`."""
    text: str
    """Such as ``better than untrained, backgrounds``."""


def compare(value: float, other: float, better: str) -> str:
    """Whether `value` is `better` or `worse` than `other`, or `equal`, where `better` is lower or higher."""
    if value == other:
        return "equal"
    return "better" if (value < other) == (better == "lower") else "worse"


def verdicts(comparison: Mapping[str, Any]) -> list[Verdict]:
    """The comparison of the model with the controls that it must exceed."""
    values = comparison["values"]
    found: dict[str, list[str]] = {"worse": [], "equal": [], "better": []}
    for name in FLOORS.keys() & values.keys():
        found[compare(values[MODEL], values[name], comparison["better"])].append(name)
    words = {"worse": "worse than", "equal": "no better than", "better": "better than"}
    return [
        Verdict(word, f"{words[word]} {', '.join(FLOORS[name] for name in FLOORS if name in names)}")
        for word, names in found.items()
        if names
    ]


def judged(comparisons: Iterable[Mapping[str, Any]], seeds: Sequence[Mapping[str, float]] = ()) -> list[dict[str, Any]]:
    """Each value of comparisons.json with its verdicts, its controls by the names of the page, a chart, and its range
    over `seeds`, the metrics of runs of other seeds."""
    result = []
    for comparison in comparisons:
        value = comparison["values"][MODEL]
        unit = comparison["unit"] or "no unit"
        bars = {SETS.get(name, name): number for name, number in comparison["values"].items()}
        label = f"{comparison['better']} is better; {unit}"
        over_seeds = [value, *(metrics[comparison["metric"]] for metrics in seeds if comparison["metric"] in metrics)]
        result.append(
            {
                **comparison,
                "value": value,
                "controls": {name: number for name, number in bars.items() if name != SETS[MODEL]},
                "verdicts": verdicts(comparison),
                "chart": Markup(bar_chart(label, bars, highlight=SETS[MODEL])),
                "seeds": f"{min(over_seeds):.4g} to {max(over_seeds):.4g} over {len(over_seeds)} seeds"
                if len(over_seeds) > 1
                else "",
            }
        )
    return result


def headline(comparisons: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The values that the page begins with."""
    chosen = []
    for keys in HEADLINE:
        for key in keys:
            found = [one for one in comparisons if one["metric"] == key or one["metric"].startswith(f"{key}_")]
            if found:
                chosen.append(found[0])
                break
    return chosen
