"""What the text of a config depends on."""

import os.path as osp
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmdet_imbalance.recommendation.profile import Profile
from mmdet_imbalance.recommendation.rules import Recipe


@dataclass
class DataFiles:
    """Paths of one part of the data, relative to `data_root`.

    Attributes:
        ann_file: the annotation.
        images: folder of the images.
        image_labels: image-level labels of Open Images.
    """

    ann_file: str
    images: str = ''
    image_labels: str | None = None


@dataclass
class ConfigPlan:
    """Everything that the text depends on.

    Attributes:
        profile: figures of the training annotation.
        recipe: what is changed.
        kind: format of the annotation: 'coco', 'lvis' or 'open_images'.
        base: 'faster-rcnn' or 'retinanet'.
        backbone: 'efficientnet-lite0' or 'r50'.
        data_root: folder of the data.
        train: files of the training data.
        val: files of the validation data.
        class_file: class descriptions of Open Images.
        tree: arguments of the hierarchy: `hierarchy_file` and, where they are needed,
            `name_map` and `allow_unknown`.
        needs_own_reader: the host's COCO reader does not understand the file.
        title: first lines of the file.
    """

    profile: Profile
    recipe: Recipe
    kind: str
    base: str
    backbone: str
    data_root: str
    train: DataFiles
    val: DataFiles | None = None
    class_file: str | None = None
    tree: dict[str, Any] = field(default_factory=dict)
    needs_own_reader: bool = False
    title: list[str] = field(default_factory=list)

    @property
    def multi_label_dataset(self) -> bool:
        """Whether a dataset of the package reads the files, with its own pack step."""
        recipe = self.recipe
        return (
            self.kind == 'open_images'
            or self.needs_own_reader
            or recipe.keeps_label_sets
            or recipe.carries_facts
            or self.tree.get('hierarchy_file') == 'wordnet'
        )


def relative(path: str | Path, start: str | Path) -> str:
    """Path from one folder to another, with forward slashes."""
    return Path(osp.relpath(path, start)).as_posix()
