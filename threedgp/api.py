"""Models and their scenes for Python programs and notebooks.

    import threedgp
    model = threedgp.load("results/model")
    scenes = model.sample(seeds=range(8), classes=["dog"])
    images = scenes.render(size=256)  # uint8 [8, 256, 256, 3]

Images are those of `threedgp generate`, byte for byte on a CPU: each depends only on model, seed, class and options.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from numbers import Integral
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from threedgp.camera.geometry import CAMERA_FIELDS
from threedgp.camera.trajectories import PATHS, front_circle
from threedgp.commands.options import Device, find_model, label_of
from threedgp.models.generator import Generator
from threedgp.models.loading import load_model, read_model_config
from threedgp.models.sampler import Scenes, sample_scenes
from threedgp.models.saving import WEIGHTS
from threedgp.runtime.allocator import keep_freed_memory
from threedgp.runtime.device import choose_device
from threedgp.runtime.errors import UserError
from threedgp.runtime.progress import Progress, hidden_progress
from threedgp.runtime.progress import progress as show_progress
from threedgp.visual.styles import TruncateTowards, scene_content, scene_styles
from threedgp.visual.views import Views, posterior_cameras, render_views

if TYPE_CHECKING:
    import trimesh

MAX_SEED = 10**18


def load(model: str | Path = "results/model", device: Device = "auto", *, progress: bool = False) -> Model:
    """A trained model, ready for use.

    Args:
        model: a folder with `model.safetensors` and `config.json`; `demo`, the model that comes with the package;
            `hf://owner/name`, a repository of the Hugging Face hub; or the URL of a `model.safetensors` with a
            `config.json` beside it, `...#sha256=...` with its checksum.
        device: `auto` is the GPU if there is one.
        progress: show the progress of a download.

    Raises:
        threedgp.runtime.errors.UserError: there is no such model, it is damaged, or there is no such device.
    """
    if device not in get_args(Device):
        raise UserError(f"device: expected {', '.join(get_args(Device))}, got {device!r}.")
    with nullcontext() if progress else hidden_progress():
        return open_model(find_model(model), device, setting="device")


class Model(NamedTuple):
    """A loaded model folder."""

    folder: Path
    generator: Generator
    config: dict[str, Any]
    """Content of config.json."""
    resolution: int
    """Pixels along each side of the training images."""
    class_names: list[str]
    """By label; empty for a model without classes."""
    sha256: str
    """Checksum of the weights file."""

    def __repr__(self) -> str:
        return f"Model({str(self.folder)!r})"

    def require_density(self, purpose: str) -> None:
        """Raise UserError if the model makes images without a scene behind them; `purpose` says what needs one."""
        if not self.generator.has_density:
            kind = self.generator.model_config.kind
            raise UserError(
                f"{self.folder}: a model of kind '{kind}' makes images without a scene behind them, which {purpose} "
                "would need; only its images can be used."
            )

    def sample(
        self,
        seeds: int | Iterable[int] = range(8),
        classes: str | int | Iterable[str | int] | None = None,
        *,
        truncation: float = 1.0,
        towards: TruncateTowards = "all",
    ) -> SceneSet:
        """Scenes of the given seeds.

        Args:
            seeds: one scene per seed, or per seed and class: all seeds in the first class, then in the second, ...
            classes: names or numbers; None = a random class for each seed, with the frequencies of the training data.
            truncation: from 1, full variety, to 0, the average scene.
            towards: truncate towards the average of all classes, or of the scene's own class.

        Raises:
            UserError: a class is unknown, or a value is out of range.
        """
        if not 0 <= truncation <= 1:
            raise UserError(f"truncation: expected a number from 0 to 1, got {truncation}.")
        if towards not in ("all", "class"):
            raise UserError(f"towards: expected 'all' or 'class', got {towards!r}.")
        numbers = [int(seeds)] if isinstance(seeds, Integral) else [index(seed) for seed in seeds]
        if not numbers or min(numbers) < 0 or max(numbers) >= MAX_SEED:
            raise UserError(f"seeds: expected integers from 0 to {MAX_SEED - 1:,}, got {numbers[:3]}.")
        labels = [None] if classes is None else self._labels(classes)
        scenes = [make_scene(self, seed, label) for label in labels for seed in numbers]
        return SceneSet(self, scenes, truncation, towards)

    def _labels(self, classes: str | int | Iterable[str | int]) -> list[int]:
        if not self.class_names:
            raise UserError("classes: this model has no classes; leave the argument out.")
        given = [classes] if isinstance(classes, str | Integral) else list(classes)
        if not given:
            raise UserError("classes: expected at least one; leave the argument out for random ones.")
        return [label_of(one, self.class_names, "classes") for one in given]


class Scene(NamedTuple):
    """One scene of a model."""

    seed: int
    label: int | None
    """Its class; None for a model without classes."""
    inputs: Scenes
    """The random inputs, a batch of one."""

    def name(self, truncation: float = 1.0) -> str:
        """Stem of file names, such as ``seed0003_class005_truncation0.7``; a truncation of 1 is not named."""
        parts = [f"seed{self.seed:04d}"]
        if self.label is not None:
            parts.append(f"class{self.label:03d}")
        if truncation != 1:
            parts.append(f"truncation{truncation:g}")
        return "_".join(parts)


class SceneSet:
    """N scenes of a model. They are computed one at a time, when images or meshes are requested."""

    def __init__(self, model: Model, scenes: list[Scene], truncation: float, towards: TruncateTowards) -> None:
        self.model, self.scenes, self.truncation, self.towards = model, scenes, truncation, towards

    def __len__(self) -> int:
        return len(self.scenes)

    def __iter__(self) -> Iterator[SceneSet]:
        return (self[index : index + 1] for index in range(len(self)))

    def __getitem__(self, index: int | slice) -> SceneSet:
        chosen = self.scenes[index]
        scenes = chosen if isinstance(index, slice) else [chosen]
        return SceneSet(self.model, scenes, self.truncation, self.towards)

    def __repr__(self) -> str:
        return f"SceneSet({', '.join(self.names[:4])}{', ...' if len(self) > 4 else ''})"

    @property
    def names(self) -> list[str]:
        """Names of the scenes, as those of the files of `threedgp generate`."""
        return [scene.name(self.truncation) for scene in self.scenes]

    @property
    def labels(self) -> list[int | None]:
        """Classes of the scenes by number; None for a model without classes."""
        return [scene.label for scene in self.scenes]

    @property
    def cameras(self) -> np.ndarray:
        """The cameras that the model predicts for the scenes, float32 `[N, 8]`; columns in docs/conventions.md."""
        return np.concatenate([posterior_cameras(self.model.generator, s.inputs).cpu().numpy() for s in self.scenes])

    def render(self, size: int | None = None, *, progress: bool = False) -> np.ndarray:
        """Images of the scenes from the cameras that the model predicts, uint8 `[N, size, size, 3]`. `size` is any
        number of pixels; None = the resolution of the training images."""
        return self.views(size=size, progress=progress).images[:, 0]

    def depth(self, size: int | None = None, *, progress: bool = False) -> np.ndarray:
        """Depth of the scenes from the same cameras: distance along the ray in scene units, float32 `[N, size, size]`.
        Argument as in `render`."""
        self.model.require_density("depth")
        return self.views(size=size, progress=progress).depth[:, 0]

    def views(
        self,
        path: str | None = None,
        frames: int = 1,
        size: int | None = None,
        *,
        cameras: np.ndarray | Tensor | None = None,
        progress: bool = False,
    ) -> Views:
        """Images, depth and normals of every scene from several cameras.

        Args:
            path: `front_circle`, `line`, `wiggle` or `orbit`, of `frames` cameras around the camera that the model
                predicts for the scene; None = that camera only.
            size: as in `render`.
            cameras: `[F, 8]` instead, columns in docs/conventions.md.
        """
        if not self.scenes:
            raise UserError("there are no scenes; choose at least one.")
        size = self.model.resolution if size is None else size
        if size < 2:
            raise UserError(f"size: an image has at least 2 pixels a side, got {size}.")
        if path is not None and path not in PATHS:
            raise UserError(f"path: there is no path '{path}'; choose from {', '.join(PATHS)}.")
        if path is not None and cameras is not None:
            raise UserError("path, cameras: both set the cameras; leave one out.")
        if frames < 1 or (path is None and frames != 1):
            raise UserError(f"frames: expected 1, or a path and at least 1, got {frames}.")
        if cameras is not None:
            cameras = torch.as_tensor(cameras, dtype=torch.float32)
            if cameras.shape != (len(cameras), len(CAMERA_FIELDS)) or not len(cameras):
                raise UserError(f"cameras: expected [F, {len(CAMERA_FIELDS)}], got {[*cameras.shape]}.")
            if not cameras.isfinite().all():
                raise UserError("cameras: expected finite numbers.")
        if path is not None or cameras is not None:
            self.model.require_density("other cameras")
        parts = []
        with show_progress("render", len(self), "scenes", visible=progress) as bar:
            for scene in self.scenes:
                own = posterior_cameras(self.model.generator, scene.inputs)
                if path is not None:
                    way = PATHS[path](self.model.generator.camera_config, frames, own[0])
                else:
                    way = own if cameras is None else cameras
                w = scene_styles(self.model.generator, scene.inputs, self.truncation, self.towards)
                parts.append(render_views(self.model.generator, w, way[None], size, Progress()))
                bar.advance()
        return Views(*(None if arrays[0] is None else np.concatenate(arrays) for arrays in zip(*parts, strict=True)))

    def meshes(
        self,
        resolution: int = 128,
        *,
        level: float | None = None,
        whole_cube: bool = False,
        progress: bool = False,
    ) -> list[trimesh.Trimesh]:
        """Watertight meshes of the scenes with vertex colors, as `threedgp mesh` writes them.

        Args:
            resolution: grid points along each side of the cube.
            level, whole_cube: as in `threedgp.visual.meshes.scene_mesh`.

        Raises:
            NoSurface: a scene has no surface; a UserError.
        """
        from threedgp.visual.meshes import CAMERAS, scene_mesh

        self.model.require_density("a mesh")
        if resolution < 2:
            raise UserError(f"resolution: a grid has at least 2 points a side, got {resolution}.")
        if level is not None and not 0 < level < math.inf:
            raise UserError(f"level: expected a density above 0, got {level}.")
        generator, found = self.model.generator, []
        with show_progress("mesh", len(self) * resolution, "planes", visible=progress) as bar:
            for scene in self.scenes:
                content = scene_content(generator, scene.inputs, self.truncation, self.towards)
                around = front_circle(generator.camera_config, CAMERAS, posterior_cameras(generator, scene.inputs)[0])
                options = dict(level=level, whole_cube=whole_cube)
                found.append(scene_mesh(generator, content, around, resolution, bar, **options))
        return found


def open_model(folder: Path, device: Device, *, setting: str = "--device") -> Model:
    """Load a model folder. Raises UserError if it holds no model or a damaged one, or the device is not available;
    `setting` is what the message calls the device."""
    keep_freed_memory()
    chosen = choose_device(device, setting=setting)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; train a model first (dvc repro train) or name its folder.")
    generator = load_model(folder, chosen)
    config = read_model_config(folder)
    names = config.get("class_names") or []
    if len(names) != generator.num_classes:
        names = [str(number) for number in range(generator.num_classes)]
    with (folder / WEIGHTS).open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return Model(folder, generator, config, config["resolution"], names, digest)


def make_scene(model: Model, seed: int, label: int | None) -> Scene:
    """The scene of a seed, in a class or in the random class of the seed.

    It depends on seed and class only; seed 3 is scene 3 of stage `render` with `render.seed: 0`.
    """
    inputs = sample_scenes(model.generator, 1, 0, start=seed, labels=None if label is None else [label])
    return Scene(seed, None if inputs.labels is None else int(inputs.labels), inputs)
