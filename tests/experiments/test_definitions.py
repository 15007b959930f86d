"""Every run of every set is a valid configuration, and every row and figure names what exists."""

from __future__ import annotations

from pathlib import Path

import pytest

from threedgp.commands.preset import overridden, preset_values
from threedgp.config import KINDS, parse_config
from threedgp.experiments.definitions import Job, jobs, load_set, set_names
from threedgp.runtime.errors import UserError

EXTERNAL = ("biggan", "stylegan_xl", "adm", "stylegan_xl_3dphoto")
"""Systems whose samples come from elsewhere."""


def all_jobs() -> list[Job]:
    return [
        job
        for name in set_names()
        for scale in load_set(name).columns
        for job in jobs(load_set(name), name, scale, [0, 7], [])
    ]


def test_every_run_parses_and_has_a_name_of_its_own() -> None:
    found = all_jobs()
    presets = {name: preset_values(name) for name in {job.preset for job in found}}
    configs = {job.name: parse_config(overridden(presets[job.preset], job.settings), job.name) for job in found}
    assert len(configs) == len(found) > 60
    assert {config.train.seed for config in configs.values()} == {0, 7}
    assert {config.model.kind for name, config in configs.items() if name.startswith("paper")} == set(KINDS)
    assert configs["paper-dogs_adaptor_off-0"].model.depth_adaptor.mode == "off"
    assert configs["paper-dogs_adaptor_off-0"].dataset.name == "sdip_dogs"
    assert configs["paper-toy-dogs_adaptor_off-7"].dataset.source == "procedural"
    assert {config.dataset.source for name, config in configs.items() if "-toy-" in name} == {"procedural"}


def test_no_two_runs_of_a_set_are_the_same() -> None:
    for name in set_names():
        for scale in load_set(name).columns:
            found = list(jobs(load_set(name), name, scale, [0], []))
            presets = {job.preset: preset_values(job.preset) for job in found}
            values = [overridden(presets[job.preset], job.settings) for job in found]
            assert not [one for index, one in enumerate(values) if one in values[:index]]


@pytest.mark.parametrize("name", set_names())
def test_tables_show_all_runs_and_nothing_unknown(name: str) -> None:
    experiments = load_set(name)
    shown = {row.key for table in experiments.tables for row in table.rows if row.key}
    assert set(experiments.runs) <= shown
    assert shown <= {*experiments.runs, *EXTERNAL}


def test_published_facts() -> None:
    systems = {row.system: row.published for row in load_set("paper").tables[0].rows}
    assert systems["3DGP"] == {"fid": 19.71, "inception_score": 124.8, "gpu_days": 28}
    assert systems["StyleGAN-XL"] == {"fid": 2.3, "inception_score": 265.1, "gpu_days": "163+"}
    assert len([found for found in systems.values() if "gpu_days" in found]) == 11
    adaptor = load_set("paper").tables[1]
    assert [row.published["fid"] for row in adaptor.rows] == [12.2, 9.25, 8.13]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("about: a\n", "mine.yaml: key 'toy' is missing"),
        ("- 1\n", "mine.yaml: expected a section with keys such as 'about'"),
        ("about: [\n", "mine.yaml: not valid YAML"),
        ("{about: a, toy: {preset: toy}, columns: {toy: [swd]}, runs: {a: {label: x, presets: toy}}}", "unknown key"),
        (
            "{about: a, toy: {preset: toy}, columns: {toy: [swd]}, runs: {a: {label: x}}, tables: [], "
            "figures: [{name: f, title: f, kind: bars, runs: [b]}]}",
            "there is no run 'b', which figure 'f' shows",
        ),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as error:
        load_set(str(file))
    assert message in str(error.value)


def test_a_set_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "{about: a, toy: {preset: smoke}, columns: {toy: [swd]}, tables: [], "
        "runs: {a: {label: x, toy: {train.kimg: 1}}}}"
    )
    (job,) = jobs(load_set(str(file)), str(file), "toy", [3], ["a"])
    assert job == Job("mine-toy-a-3", "smoke", {"train.seed": 3, "train.kimg": 1})


def test_what_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no set 'nothing'; choose one of beyond, ideas, paper"):
        load_set("nothing")
    with pytest.raises(UserError, match=r"nothing.yaml: no such file; name a .yaml file, or one of the sets beyond, "):
        load_set(str(tmp_path / "nothing.yaml"))
    with pytest.raises(UserError, match=r"there is no set '\.\./paper'"):
        load_set("../paper")
    experiments = load_set("paper")
    with pytest.raises(UserError, match="has no run 'nothing'"):
        list(jobs(experiments, "paper", "toy", [0], ["nothing"]))
    with pytest.raises(UserError, match="--only: run 'distillation_clip' does not exist at scale 'toy'"):
        list(jobs(experiments, "paper", "toy", [0], ["3dgp", "distillation_clip"]))
    with pytest.raises(UserError, match="has scale 'toy' only"):
        load_set("ideas").scale("paper")
