"""Commands, links and settings that README and docs name exist."""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer

from threedgp.cli import app
from threedgp.commands.preset import default_values

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md")])
PROGRAM = r"(?:threedgp|python -m stages\.\w+)"


def command_lines(text: str) -> Iterator[list[str]]:
    """Command lines in code blocks and between backticks, without comments and redirections."""
    text = text.replace("\\\n", " ")
    found = re.findall(rf"`({PROGRAM} [^`]+)`", text) + re.findall(rf"^\s*(?:nohup )?({PROGRAM} [^\n]*)", text, re.M)
    for line in found:
        yield shlex.split(re.split(r"\s+#|\s(?:&&|>|&)(?:\s|$)", " ".join(line.split()))[0])


def anchors(page: Path) -> set[str]:
    """Names by which links lead to the headings of a page."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_have_these_options(page: Path) -> None:
    for program, *arguments in command_lines(page.read_text(encoding="utf-8")):
        command = typer.main.get_command(app)
        if program == "python":
            command = typer.main.get_command(importlib.import_module(arguments[1]).app)
            arguments = arguments[2:]
        while isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
            assert arguments[0] in command.commands, arguments
            command, arguments = command.commands[arguments[0]], arguments[1:]
        command.make_parser(click.Context(command)).parse_args(arguments)  # raises UsageError


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text(encoding="utf-8")):
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_settings_are_those_of_the_schema(page: Path) -> None:
    values, text = default_values(), page.read_text(encoding="utf-8")
    for key in re.findall(r"(?:`|-S )((?:" + "|".join(values) + r")(?:\.\w+)+)", text):
        if not key.endswith((".json", ".safetensors", ".yaml")):
            place = values
            for part in key.split("."):
                assert part in place, key
                place = place[part]
