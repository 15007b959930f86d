"""Tables of our numbers beside published ones: as text, Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from threedgp.experiments.definitions import ExperimentSet, Row, Scale, Table
from threedgp.experiments.records import Record
from threedgp.runtime.atomic import write_json
from threedgp.runtime.errors import UserError

Format = Literal["text", "markdown", "csv", "latex"]
NOT_RUN = "not run"
FACTS = ("seeds", "kimg", "samples", "commit")
"""Columns after the metrics: how the numbers were obtained."""

MAX_CELL = 24
"""Characters of a line in a cell of text tables."""

COLLECTED = Path("results/table.json")
"""Where the report finds tables; DVC does not know the file."""

Measured = Mapping[str, Sequence[Record]]
"""Records of all seeds by the key of a row."""


@dataclass(frozen=True)
class Rendered:
    """A table as text; numbers are means, with standard deviations over seeds where there are several."""

    title: str
    about: str
    datasets: tuple[str, ...]
    """Data sets of the rows, as ``name resolution``."""
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def render(table: Table, experiments: ExperimentSet, scale: Scale, measured: Measured) -> Rendered | None:
    """`table` with what was measured at `scale`; None if it has no row there.

    At scale `toy`, systems that are not trained here are left out, and so are published numbers: the data are others.
    """
    trained = {key for key, run in experiments.runs.items() if scale in experiments.scales(run)}
    rows = [row for row in table.rows if scale == "paper" or row.key in trained]
    if not rows:
        return None
    metrics = experiments.columns[scale]
    published = [name for name in metrics if scale == "paper" and any(name in row.published for row in rows)]
    found = [list(measured.get(row.key or "", ())) for row in rows]
    has_notes = any(row.note for row in rows)

    def cells(row: Row, records: list[Record]) -> tuple[str, ...]:
        line = [row.system, *([row.note or ""] if has_notes else [])]
        for name in metrics:
            if name in published:
                line.append(_text(row.published.get(name, "")))
            line.append(_mean(records, name) if records else NOT_RUN if row.key else "")
        kimg, samples = (_distinct([record.metrics.get(name) for record in records]) for name in ("kimg", "samples"))
        commits = _distinct([record.code for record in records])
        return (*line, str(len(records)) if records else "", kimg, samples, commits)

    names = (f"{name}, published|{name}".split("|") if name in published else [name] for name in metrics)
    header = ("system", *(["note"] if has_notes else []), *(name for pair in names for name in pair), *FACTS)
    datasets = {record.dataset for records in found for record in records}
    title, about = f"{table.title}: its runs on the procedural world", ""
    if scale == next(iter(experiments.columns)):  # that of the title
        title, about, datasets = table.title, table.about, datasets | set(table.datasets)
    return Rendered(title, about, tuple(sorted(datasets)), header, tuple(map(cells, rows, found)))


def write_collected(tables: Sequence[Rendered]) -> None:
    """Keep the tables for the report."""
    write_json(COLLECTED, [asdict(table) for table in tables])


def read_collected(dataset: str) -> list[Rendered]:
    """The tables of `write_collected` whose rows all belong to `dataset`, a name and a resolution.

    Raises:
        UserError: the file holds something else.
    """
    try:
        tables = [Rendered(**values) for values in json.loads(COLLECTED.read_text(encoding="utf-8"))]
        return [table for table in tables if list(table.datasets) == [dataset]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError):
        raise UserError(
            f"{COLLECTED}: holds no tables; remove it, or write it again with threedgp experiments table --report."
        ) from None


def _mean(records: Sequence[Record], name: str) -> str:
    values = [record.metrics[name] for record in records if name in record.metrics]
    spread = f" ± {_rounded(statistics.stdev(values), 2)}" if len(values) > 1 else ""
    return f"{_rounded(statistics.mean(values), 4)}{spread}" if values else ""


def _rounded(value: float, digits: int) -> str:
    """A number with significant digits, without an exponent below a million."""
    return f"{float(f'{value:.{digits}g}'):g}"


def _text(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.10g}"


def _distinct(values: Sequence[float | str | None]) -> str:
    return ", ".join(dict.fromkeys(_text(value) for value in values if value is not None))


def text(tables: Sequence[Rendered]) -> str:
    """The tables for a terminal. One that is wider than the terminal is continued below, with its first column
    repeated."""
    from rich.console import Console
    from rich.table import Table as Grid
    from rich.text import Text

    output, available = io.StringIO(), shutil.get_terminal_size((200, 50)).columns
    for table in tables:
        widths = [_width(column) for column in zip(table.header, *table.rows, strict=True)]
        blocks = _blocks(widths, available)
        for number, block in enumerate(blocks):
            grid = Grid(title_justify="left", caption_justify="left")
            grid.title = Text(table.title) if number == 0 else None
            grid.caption = Text(table.about) if number == len(blocks) - 1 else None
            for column in block:
                grid.add_column(Text(table.header[column]), width=widths[column])
            for row in table.rows:
                grid.add_row(*(Text(row[column]) for column in block))  # a plain string would be read as markup
            Console(file=output, width=max(available, _total(widths, block))).print(grid)
    return output.getvalue()


def _width(cells: Sequence[str]) -> int:
    """Characters of a column: long cells are wrapped, words and numbers are not broken."""
    longest_word = max((len(word) for cell in cells for word in cell.split()), default=1)
    return max(longest_word, min(max(map(len, cells)), MAX_CELL))


def _total(widths: Sequence[int], block: Sequence[int]) -> int:
    return sum(widths[column] + 3 for column in block) + 1


def _blocks(widths: Sequence[int], available: int) -> list[list[int]]:
    """Numbers of the columns, in groups that fit into `available` characters; each begins with the first column."""
    blocks = [[0]]
    for column in range(1, len(widths)):
        if len(blocks[-1]) > 1 and _total(widths, [*blocks[-1], column]) > available:
            blocks.append([0])
        blocks[-1].append(column)
    return blocks


def markdown(tables: Sequence[Rendered]) -> str:
    """The tables as Markdown."""
    return "\n".join(_markdown(table) for table in tables)


def _markdown(table: Rendered) -> str:
    lines = [table.header, ("---",) * len(table.header), *table.rows]
    text = "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)
    about = f"{table.about}\n\n" if table.about else ""
    return f"### {table.title}\n\n{about}{text}"


def comma_separated(tables: Sequence[Rendered]) -> str:
    """The tables as CSV, one after another; the first column is the title."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for table in tables:
        writer.writerow(("table", *table.header))
        writer.writerows((table.title, *row) for row in table.rows)
    return text.getvalue()


LATEX = {"±": r"$\pm$", "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
LATEX |= {symbol: f"\\{symbol}" for symbol in "&%$#_{}"}


def latex(tables: Sequence[Rendered]) -> str:
    """The tables as LaTeX; the package booktabs is needed."""
    return "\n".join(_latex(table) for table in tables)


def _latex(table: Rendered) -> str:
    def line(cells: Sequence[str]) -> str:
        escaped = (re.sub(r"[±\\~^&%$#_{}]", lambda found: LATEX[found[0]], cell) for cell in cells)
        return " & ".join(escaped) + r" \\"

    head, *body = map(line, (table.header, *table.rows))
    caption = line([table.title]).removesuffix(r" \\")
    return "\n".join(
        (
            r"\begin{table}",
            rf"\caption{{{caption}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}",
            r"\toprule",
            head,
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        )
    )


WRITERS: dict[Format, Callable[[Sequence[Rendered]], str]] = {
    "text": text,
    "markdown": markdown,
    "csv": comma_separated,
    "latex": latex,
}
