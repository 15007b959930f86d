"""3D generation on ImageNet: learning 3D scenes from plain photographs, many categories, unaligned.

import threedgp
model = threedgp.load("demo")
images = model.sample(seeds=range(8), classes=["dog"]).render(size=256)
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from threedgp.api import Model, SceneSet, load

__version__ = "0.1.0"
__all__ = ["Model", "SceneSet", "__version__", "load"]


def __getattr__(name: str) -> Any:
    # PyTorch takes seconds to import, and half of the commands do without it.
    if name in ("Model", "SceneSet", "load"):
        from threedgp import api

        return getattr(api, name)
    raise AttributeError(f"module 'threedgp' has no attribute '{name}'")
