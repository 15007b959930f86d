"""What a folder or archive of images holds: numbers, classes, sizes, and what will be left out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from threedgp.data.archives import parquet_files
from threedgp.data.archives.files import FileEntry, Tree, open_tree
from threedgp.data.archives.listing import OUTSIDE, SINGLE_CLASS, first_folders, list_pictures
from threedgp.data.archives.pictures import FORMATS, BadPicture, check_size, open_picture
from threedgp.data.prepare import MAX_ENLARGEMENT
from threedgp.data.sources.hub import is_repository
from threedgp.data.sources.rgbd import label_images, pair
from threedgp.fetch.hub import dataset_size
from threedgp.runtime.addresses import expanded
from threedgp.runtime.errors import UserError

MAX_OPENED = 2000
"""Images whose headers are read; of more, evenly spaced ones."""
MAX_CLASSES_SHOWN = 8


@dataclass
class Survey:
    """A set of images."""

    count: int
    """Files that look like images."""
    classes: dict[str, int | None]
    """Number of images by class; None = unknown."""
    sides: list[int] = field(default_factory=list)
    """Shorter sides, in pixels, of the opened images."""
    problems: Counter[str] = field(default_factory=Counter)
    """Numbers of images that cannot be used, by reason; estimated if not all were opened."""

    @property
    def median_side(self) -> int | None:
        """Median of the shorter sides; None if no image was opened."""
        return int(median(self.sides)) if self.sides else None

    def num_left_out(self, resolution: int) -> int:
        """Number of images that will be left out at `resolution`."""
        return sum(self.problems.values()) + self._num_too_small(resolution)

    def _num_too_small(self, resolution: int) -> int:
        small = sum(side * MAX_ENLARGEMENT < resolution for side in self.sides)
        return round(small / max(len(self.sides), 1) * (self.count - sum(self.problems.values())))

    def lines(self, resolution: int) -> list[str]:
        """The survey as lines of text, with what is left out at `resolution`."""
        largest = sorted(self.classes.items(), key=lambda one: -(one[1] or 0))[:MAX_CLASSES_SHOWN]
        shown = ", ".join(name if count is None else f"{name} ({count:,})" for name, count in largest)
        shown += ", ..." if len(self.classes) > MAX_CLASSES_SHOWN else ""
        sizes = (
            f", shorter side {min(self.sides)} to {max(self.sides)} px, median {self.median_side}" if self.sides else ""
        )
        lines = [f"Images: {self.count:,}{sizes}.", f"Classes: {len(self.classes):,}: {shown}."]
        problems = dict(self.problems.most_common())
        if small := self._num_too_small(resolution):
            problems[f"fewer than {resolution // MAX_ENLARGEMENT} px, too few for {resolution}"] = small
        lines += [f"Left out: {count:,} ({reason})." for reason, count in problems.items()]
        if any("known image format" in reason for reason in problems):
            lines.append(f"Formats that are read: {', '.join(FORMATS)}.")
        return lines


def survey_images(source: str, path: str) -> Survey:
    """Look at the images of `source` at `path`, the option `--images`. Raises UserError if there are none, or they
    cannot be read."""
    try:
        return _survey_hub(path) if source == "hub" else _survey_tree(source, path)
    except UserError as error:  # the images are not at `dataset.path` yet
        raise UserError(re.sub(r"^dataset\.path: ", "--images: ", str(error))) from None


def _survey_tree(source: str, path: str) -> Survey:
    place = expanded(path)
    if not place.exists():
        raise UserError(f"--images: there is no '{path}'; name a folder, zip or tar, or a data set of the hub.")
    tree = open_tree(place)
    files = list_pictures(tree, place, label="new")
    problems: Counter[str] = Counter()
    if source == "rgbd":
        images, depths = pair(files)
        alone = [name for name in images if name.rpartition(".")[0] not in depths]
        if alone:
            problems["no depth map"] = len(alone)
        if len(alone) == len(images):
            raise UserError(f"--depth: no image has a depth map, such as {alone[0].rpartition('.')[0]}_depth.png.")
        class_names, labels, unlabeled = label_images(tree, place, images)
        files = list(images.values())
    else:
        class_names, labels = first_folders(files, [file.path for file in files])
        unlabeled = OUTSIDE
    labelled = Counter(class_names[label] for label in labels if label is not None)
    known = [file for file, label in zip(files, labels, strict=True) if label is not None or file.problem]
    if len(known) < len(files):
        problems[unlabeled] = len(files) - len(known)
    found = Survey(len(files), dict(labelled), problems=problems)
    _open_some(tree, known, found)
    return found


def _open_some(tree: Tree, files: Sequence[FileEntry], found: Survey) -> None:
    """Add sizes and problems of the files, or of `MAX_OPENED` of them, to `found`."""
    step = max(len(files) / MAX_OPENED, 1.0)
    bad: Counter[str] = Counter()
    for number in range(int(len(files) / step)):
        file = files[int(number * step)]
        try:
            found.sides.append(_shorter_side(tree, file))
        except BadPicture as reason:
            bad[str(reason)] += 1
    found.problems.update({reason: round(count * step) for reason, count in bad.items()})


def _shorter_side(tree: Tree, file: FileEntry) -> int:
    if file.problem:
        raise BadPicture(file.problem)
    data = check_size(file.size) or tree.load(file.path)
    if isinstance(data, BadPicture):
        raise data
    with open_picture(data, load=False) as image:
        return min(image.size)


def _survey_hub(path: str) -> Survey:
    if is_repository(path):
        try:
            count, names = dataset_size(path)
        except UserError as error:
            raise UserError(f"--images: there is no '{path}' here, so it was looked up on the hub; {error}") from None
        return Survey(count, dict.fromkeys(names) if names else {SINGLE_CLASS: count})
    place = expanded(path)
    classes, count = parquet_files.count_classes(place), parquet_files.contents(place).num_images
    without = count - sum(classes.values())
    return Survey(count, classes, problems=Counter({parquet_files.NO_LABEL: without} if without else {}))
