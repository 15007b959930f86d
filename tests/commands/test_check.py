from pathlib import Path

import yaml

from threedgp.commands.check import missing_keys


def test_missing_keys(root: Path) -> None:
    values = yaml.safe_load((root / "params.yaml").read_text())
    assert missing_keys(values) == []
    del values["machine"], values["train"]["seed"], values["report"]
    assert missing_keys(values) == ["train.seed", "report"]
