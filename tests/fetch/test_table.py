"""The table agrees with the design and with itself."""

from __future__ import annotations

import re

import pytest

from threedgp.config.root import Config
from threedgp.fetch import table
from threedgp.fetch.table import WEIGHTS


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights(name: str) -> None:
    entry = WEIGHTS[name]
    section, key = entry.key.split(".")
    assert key in Config.model_fields[section].annotation.model_fields
    assert entry.file.checksum and entry.file.url.startswith("https://") and entry.license
    assert entry.file.url.endswith(f"/{entry.file.name}")


def test_checksum_in_a_name_is_that_of_the_file() -> None:
    """torch.hub's custom: the first digits of the SHA-256 stand in the name."""
    file = table.WEIGHTS["inception"].file
    [digits] = re.findall(r"-([0-9a-f]{8})\.pth", file.name)
    assert file.checksum.startswith(f"sha256:{digits}")
