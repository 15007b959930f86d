"""A hold on the writing of shards, for tests that stop or kill a stage in the middle."""

from __future__ import annotations

# Python runs this when it starts: from the fifth shard on, writing waits while there is a file `hold`.
HOLD = """
import importlib.abc, sys, time
from pathlib import Path

class Hold(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "threedgp.data.shardwise":
            import threedgp.data.shards as shards
            real = shards.ShardWriter.write
            def write(self, index, table):
                while index >= 4 and Path("hold").exists():
                    time.sleep(0.01)
                real(self, index, table)
            shards.ShardWriter.write = write
        return None

sys.meta_path.insert(0, Hold())
"""
