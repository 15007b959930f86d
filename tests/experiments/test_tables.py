"""Tables and figures of known records: means, deviations, gaps, formats."""

from __future__ import annotations

import csv
import io
import json
import re
import statistics
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from threedgp.experiments import tables
from threedgp.experiments.definitions import Row, Table, load_set
from threedgp.experiments.records import Record, read_external, read_records, write_records
from threedgp.runtime.errors import UserError
from threedgp.visual.experiment_figures import draw, mean_curve

PAPER = load_set("paper")


def record(fid: float, code: str = "aaaaaaa", samples: int = 50000) -> Record:
    numbers = {"fid": fid, "inception_score": 100.0, "samples": float(samples), "kimg": 25000.0}
    curves = ({"kimg": 1.0, "distance/fid_2048": 2 * fid}, {"kimg": 2.0, "distance/fid_2048": fid}, {"kimg": 3.0})
    return Record(numbers, "imagenet 256", code, curves)


MEASURED = {"3dgp": [record(18.0), record(21.0, "bbbbbbb"), record(22.0, samples=2048)], "biggan": [record(8.5)]}


def line(rendered: tables.Rendered, system: str) -> dict[str, str]:
    """The row of a system, by column."""
    (row,) = (row for row in rendered.rows if row[0] == system)
    return dict(zip(rendered.header, row, strict=True))


def test_ours_stand_beside_the_published_numbers() -> None:
    rendered = tables.render(PAPER.tables[0], PAPER, "paper", MEASURED)
    ours = line(rendered, "3DGP")
    assert ours["fid, published"] == "19.71" and ours["gpu_days, published"] == "28"
    mean, spread = map(float, ours["fid"].split(" ± "))
    assert mean == pytest.approx(statistics.mean([18, 21, 22]), rel=1e-3)
    assert spread == pytest.approx(statistics.stdev([18, 21, 22]), rel=0.05)
    assert ours["seeds"] == "3" and ours["samples"] == "50000, 2048" and ours["kimg"] == "25000"
    assert ours["commit"] == "aaaaaaa, bbbbbbb" and ours["sfid"] == ""
    one = line(rendered, "BigGAN")
    assert one["fid"] == "8.5" and one["seeds"] == "1"
    many = tables.render(PAPER.tables[0], PAPER, "paper", {"adm": [record(4.6, samples=1281167)]})
    assert line(many, "ADM")["samples"] == "1281167"
    gap = line(rendered, "StyleNeRF")
    assert gap["fid"] == "not run" and gap["fid, published"] == "56.64" and gap["commit"] == ""
    assert line(rendered, "VQ3D")["fid"] == "", "there is no way to run it"
    assert rendered.datasets == ("imagenet 256",)


def test_large_numbers_have_no_exponent() -> None:
    rendered = tables.render(PAPER.tables[0], PAPER, "paper", {"3dgp": [record(fid) for fid in (19700, 20800, 21900)]})
    assert line(rendered, "3DGP")["fid"] == "20800 ± 1100"


def test_rows_of_one_name_keep_their_own_numbers() -> None:
    rows = tuple(Row(system="3DGP", key=key) for key in ("3dgp", "biggan"))
    rendered = tables.render(Table(title="both", rows=rows), PAPER, "paper", MEASURED)
    assert [row[1] for row in rendered.rows] == ["20.33 ± 2.1", "8.5"]


def test_toy_scale_shows_neither_published_numbers_nor_other_systems() -> None:
    toy = Record({"swd": 0.25, "kimg": 12.0, "samples": 1024.0}, "toy 32", "ccccccc")
    rendered = tables.render(PAPER.tables[0], PAPER, "toy", {"3dgp": [toy]})
    assert not [name for name in rendered.header if "published" in name]
    assert "BigGAN" not in [row[0] for row in rendered.rows]
    assert line(rendered, "3DGP")["swd"] == "0.25" and "procedural world" in rendered.title
    assert rendered.datasets == ("toy 32",)


def test_formats_hold_the_same_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # of the terminal
    rendered = [tables.render(PAPER.tables[0], PAPER, "paper", MEASURED)]
    rows = list(csv.reader(io.StringIO(tables.comma_separated(rendered))))
    assert [row[1] for row in rows[1:]] == [row.system for row in PAPER.tables[0].rows]
    assert len({len(row) for row in rows}) == 1
    markdown = tables.markdown(rendered)
    cells = [re.split(r"(?<!\\)\|", row) for row in markdown.splitlines() if row.startswith("|")]
    assert len(cells) == len(rows) + 1 and len({len(row) for row in cells}) == 1
    latex = tables.latex(rendered)
    body = latex[latex.index(r"\midrule") : latex.index(r"\bottomrule")]
    assert {row.count("&") for row in body.splitlines()[1:]} == {len(rendered[0].header) - 1}
    assert r"inception\_score" in latex and r"$\pm$" in latex and "±" not in latex
    assert "not run" in tables.text(rendered)


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_no_number_is_cut_in_a_narrow_terminal(monkeypatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    header = ("system", *(f"outer_view_error_{number}" for number in range(12)))
    values = [f"0.0{number}53 ± 0.0{number}41" for number in range(10, 22)]
    shown = tables.text([tables.Rendered("Title", "About.", (), header, (("fields of view", *values),))])
    for cell in (*header[1:], *values):
        assert cell in shown
    assert max(map(len, shown.splitlines())) <= columns
    assert shown.count("Title") == shown.count("About.") == 1


def test_special_characters_stay_text() -> None:
    odd = tables.Rendered("100 %", "", (), ("a_b", "c"), (("x|y & [red]", "\\~^#"),))
    assert r"x\|y" in tables.markdown([odd])
    assert r"x|y \& [red] & \textbackslash{}\textasciitilde{}\textasciicircum{}\#" in tables.latex([odd])
    assert "[red]" in tables.text([odd])


def test_curve_is_the_mean_over_seeds_at_every_length() -> None:
    assert mean_curve(MEASURED["3dgp"][:2], "fid") == [(1.0, 39.0), (2.0, 19.5)]
    assert mean_curve(MEASURED["3dgp"], "swd") == []


def test_figures_show_what_was_measured() -> None:
    convergence, adaptor = PAPER.figures
    svg = draw(convergence, PAPER, "paper", MEASURED | {"no_distillation": [record(30)]})
    ElementTree.fromstring(svg)
    assert ">3DGP on ImageNet</text>" in svg and ">no distillation</text>" in svg and "KL" not in svg
    assert draw(adaptor, PAPER, "paper", MEASURED) is None
    bars = draw(adaptor, PAPER, "paper", {"dogs": [record(8.0), record(9.0)], "dogs_adaptor_off": [record(12.0)]})
    assert ">8.5</text>" in bars and ">12</text>" in bars and "half" not in bars


def test_report_reads_the_tables_of_its_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert tables.read_collected("toy 32") == []
    one, mixed = (tables.Rendered(name, "", data, ("a",), (("b",),)) for name, data in (("1", ("toy 32",)), ("2", ())))
    tables.write_collected([one, mixed])
    (found,) = tables.read_collected("toy 32")
    assert found.title == "1" and found.rows == [["b"]]
    assert tables.read_collected("toy 64") == []
    for damaged in ("{", "[1]", '[{"titel": 1}]', "null"):
        tables.COLLECTED.write_text(damaged)
        with pytest.raises(UserError, match="holds no tables; remove it"):
            tables.read_collected("toy 32")


def test_scored_samples_of_other_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_external("biggan") is None
    file = tmp_path / "results" / "external" / "biggan.json"
    file.parent.mkdir(parents=True)
    about = {"dataset": "imagenet", "resolution": 256, "commit": "abc"}
    file.write_text(json.dumps({"about": about, "fid": 8.5, "samples": 50000, "fid_distilled": True, "odd": "text"}))
    assert read_external("biggan") == Record({"fid": 8.5, "samples": 50000.0}, "imagenet 256", "abc")
    odd = [json.dumps({"about": about | {"commit": commit}}) for commit in ("\x1b[31m", 7, [])]
    for damaged in ("[", "[]", "{}", '{"about": {"dataset": "a"}}', "[" * 100_000, *odd):
        file.write_text(damaged)
        with pytest.raises(UserError, match=r"biggan\.json: is no result of"):
            read_external("biggan")


def test_records_are_read_as_they_were_written(tmp_path: Path) -> None:
    file = tmp_path / "records.jsonl"
    kept = {"paper-3dgp-0": record(18.0), "paper-dogs-12": Record({}, "sdip_dogs 256")}
    write_records(file, kept)
    assert read_records(file) == kept
    assert len(file.read_text().splitlines()) == 2
    good = json.loads(file.read_text().splitlines()[0])
    file.write_text(json.dumps(good | {"metrics": {"fid": 10**400, "swd": 0.5}}))
    assert next(iter(read_records(file).values())).metrics == {"swd": 0.5}, "too large for a float"
    values = [("code", "\x1b[31m"), ("dataset", 7), ("curves", [3]), ("curves", [{"swd": 0.5}]), ("metrics", 1)]
    odd = [good | {key: value} for key, value in values]
    for damaged in ("{", "[]", "null", "{}", "[" * 100_000, *map(json.dumps, odd)):
        file.write_text(damaged)
        with pytest.raises(UserError, match=r"records\.jsonl: holds no records"):
            read_records(file)
    with pytest.raises(UserError, match="there is no such file"):
        read_records(tmp_path / "missing.jsonl")
