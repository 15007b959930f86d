"""``threedgp info`` says what a model is."""

from __future__ import annotations

import hashlib
import io
import json
import sys


def test_says_what_the_model_is(threedgp, model_folder, tiny_generator):
    out = " ".join(threedgp("info", model_folder).out.split())
    digest = hashlib.sha256((model_folder / "model.safetensors").read_bytes()).hexdigest()
    count = sum(parameter.numel() for parameter in tiny_generator.parameters())
    for words in (
        "3dgp, with depth",
        "data set tiny",
        "16 x 16 pixels",
        "classes 2: box, ball",
        "1.5 thousand images, seed 0",
        "learned, prior uniform: yaw -1.57 to 1.57",
        "fov 10 to 45 degrees",
        "0.75 to 1.25, 4 + 4 samples",
        "z 8, w 8, planes 3 x 8 x 8 x 4",
        f"parameters {count:,} (mapping ",
        digest,
    ):
        assert words in out, words


def test_odd_words_in_the_configuration_are_shown_as_they_are(threedgp, model_folder, tmp_path):
    content = json.loads((model_folder / "config.json").read_text())
    odd = {"dataset": "[red]a[/red]", "class_names": ["[b]", ":cat:"]}
    (tmp_path / "config.json").write_text(json.dumps(content | odd))
    (tmp_path / "model.safetensors").write_bytes((model_folder / "model.safetensors").read_bytes())
    outcome = threedgp("info", tmp_path)
    out = " ".join(outcome.out.split())
    assert outcome.code == 0
    assert "data set [red]a[/red]" in out and "2: [b], :cat:" in out


def test_names_control_no_terminal_and_need_no_encoding(threedgp, model_folder, tmp_path, monkeypatch):
    content = json.loads((model_folder / "config.json").read_text())
    odd = {"dataset": "\x1b]0;title\x07\x9b2J", "class_names": ["Hündchen", "犬"]}
    (tmp_path / "config.json").write_text(json.dumps(content | odd))
    (tmp_path / "model.safetensors").write_bytes((model_folder / "model.safetensors").read_bytes())

    def ascii_output(folder):
        for name in ("stdout", "stderr"):
            monkeypatch.setattr(f"sys.{name}", io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True))
        streams = sys.stdout, sys.stderr
        code = threedgp("info", folder).code
        return code, *(stream.buffer.getvalue().decode("ascii") for stream in streams)

    code, out, err = ascii_output(tmp_path)
    assert code == 0, err
    assert r"\x1b]0;title\x07\x9b2J" in out and r"H\xfcndchen, \u72ac" in out
    code, _, err = ascii_output(tmp_path / "\x1b[2J")
    assert code == 2 and r"\x1b[2J" in err and "\x1b" not in err


def test_json_is_for_programs(threedgp, model_folder, tiny_generator):
    content = json.loads(threedgp("info", model_folder, "--json").out)
    assert content["class_names"] == ["box", "ball"] and content["kimg"] == 1.5
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in tiny_generator.named_children()}
    assert content["parameters"] == {name: count for name, count in parts.items() if count}
