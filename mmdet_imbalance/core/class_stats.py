"""Statistics of the classes of a training set: one record, one file format.

Sampling, weighting, concurrent rates and reports by frequency all start from these
numbers, so they are counted in one place (`core/class_counting.py`).

Counts are of *explicit* labels, those that stand in the annotation; what a hierarchy
implies is asked for with `expanded=True` and is never mixed with them.

Shapes: C foreground classes, Q pairs of classes.
Frequency groups: LVIS, Gupta et al., CVPR 2019, arXiv 1908.03195: 'r' rare (1 to 10
training images), 'c' common (11 to 100), 'f' frequent (more). A class without images
is rare. Deviations: none.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mmdet_imbalance.core import class_stats_checks as checks
from mmdet_imbalance.core.atomic_write import write_text_atomically

FILE_FORMAT = 'mmdet_imbalance.class_stats'
FILE_VERSION = 1
#: Largest number of training images of a rare and of a common class.
FREQ_THRESHOLDS = (10, 100)


def _no_pairs() -> np.ndarray:
    return np.zeros(0, dtype=np.int64)


@dataclass(eq=False, kw_only=True)
class ClassStats:
    """Counts of a detection dataset by class.

    Attributes:
        class_names: names of the C classes, in label order.
        img_count: images with at least one object that bears the class, int64 (C,).
        instance_count: objects that bear the class, int64 (C,).
        num_images: all images, those without objects included.
        pair_rows, pair_cols, pair_values: objects that explicitly bear two classes,
            int64 (Q,) each; every unordered pair once, rows < cols, values > 0. Given
            otherwise (both triangles, the diagonal) they are brought to this form.
        ancestor_matrix: bool (C, C), [child, ancestor], reflexive; None is the
            identity: no class implies another.
        freq_group: 'r', 'c' or 'f' of each class, (C,); None takes it from
            `img_count` by `FREQ_THRESHOLDS`, for a class that only descendants are
            annotated with from `expanded_img_count`.
        fingerprint: hash of what was counted; '' where unknown.
        expanded_img_count, expanded_instance_count: the counts when an object bears
            all ancestors of its labels too, int64 (C,). None without a hierarchy.
        expanded_pair_rows, expanded_pair_cols, expanded_pair_values: as above.
    """

    class_names: Sequence[str]
    img_count: np.ndarray
    instance_count: np.ndarray
    num_images: int
    pair_rows: np.ndarray = field(default_factory=_no_pairs)
    pair_cols: np.ndarray = field(default_factory=_no_pairs)
    pair_values: np.ndarray = field(default_factory=_no_pairs)
    ancestor_matrix: np.ndarray | None = None
    freq_group: Sequence[str] | np.ndarray | None = None
    fingerprint: str = ''
    expanded_img_count: np.ndarray | None = None
    expanded_instance_count: np.ndarray | None = None
    expanded_pair_rows: np.ndarray = field(default_factory=_no_pairs)
    expanded_pair_cols: np.ndarray = field(default_factory=_no_pairs)
    expanded_pair_values: np.ndarray = field(default_factory=_no_pairs)

    def __post_init__(self) -> None:
        self.class_names = checks.class_names(self.class_names)
        num = len(self.class_names)
        self.num_images = int(checks.counts('num_images', [self.num_images], 1)[0])
        for prefix in ('', 'expanded_'):
            if prefix and getattr(self, f'{prefix}instance_count') is None:
                continue
            for name in (f'{prefix}img_count', f'{prefix}instance_count'):
                setattr(self, name, checks.counts(name, getattr(self, name), num))
            images, objects = (
                getattr(self, f'{prefix}{k}_count') for k in ('img', 'instance')
            )
            checks.check_count_pair(
                self.class_names, images, objects, self.num_images, prefix
            )
            names = [f'{prefix}pair_{k}' for k in ('rows', 'cols', 'values')]
            pairs = checks.canonical_pairs(
                names, [getattr(self, n) for n in names], objects
            )
            for name, value in zip(names, pairs, strict=True):
                setattr(self, name, value)
        if self.ancestor_matrix is None:
            self.ancestor_matrix = np.eye(num, dtype=bool)
        else:
            self.ancestor_matrix = checks.ancestor_matrix(self.ancestor_matrix, num)
        if self.freq_group is None:
            self.freq_group = self.groups_by_count()
        self.freq_group = checks.freq_groups(self.freq_group, num)

    @property
    def num_classes(self) -> int:
        """Number C of foreground classes."""
        return len(self.class_names)

    def groups_by_count(
        self, thresholds: tuple[int, int] = FREQ_THRESHOLDS
    ) -> np.ndarray:
        """Frequency group of each class by image counts, (C,); see `freq_group`."""
        counts = self.img_count
        if self._is_expanded:
            counts = np.where(counts > 0, counts, self.expanded_img_count)
        return freq_groups(counts, thresholds)

    @property
    def img_freq(self) -> np.ndarray:
        """Fraction of images that bear each class, float64 (C,)."""
        return self.img_count / max(self.num_images, 1)

    @property
    def has_hierarchy(self) -> bool:
        """Whether any class implies another."""
        return bool(self.ancestor_matrix.sum() > self.num_classes)

    def imbalance_factor(self, counts: str = 'instance_count') -> float:
        """Largest count over smallest count, of the classes that occur at all.

        Args:
            counts: 'instance_count' or 'img_count'.

        Returns:
            At least 1; nan where no class occurs.
        """
        if counts not in ('instance_count', 'img_count'):
            raise ValueError(
                "`counts` must be 'instance_count' or 'img_count', got " + repr(counts)
            )
        occurring = getattr(self, counts)
        occurring = occurring[occurring > 0]
        return float(occurring.max() / occurring.min()) if occurring.size else np.nan

    def pair_count(self, expanded: bool = False) -> np.ndarray:
        """Objects that bear two classes at once.

        Args:
            expanded: count the ancestors of a label as labels of the object too.

        Returns:
            int64 (C, C), symmetric; the diagonal is the number of objects that bear
            the class, so that `pair_count / diagonal[:, None]` is P(column | row).
        """
        prefix = 'expanded_' if expanded and self._is_expanded else ''
        if expanded and not prefix and self.has_hierarchy:
            raise ValueError(
                'these statistics have a hierarchy but no expanded counts; make them '
                'with `tools/class_stats.py` or `count_classes`'
            )
        matrix = np.diag(getattr(self, f'{prefix}instance_count'))
        rows, cols = (getattr(self, f'{prefix}pair_{k}') for k in ('rows', 'cols'))
        values = getattr(self, f'{prefix}pair_values')
        matrix[rows, cols] = values
        matrix[cols, rows] = values
        return matrix

    def concurrent_rate(
        self, direction: str = 'given_row', expanded: bool = True
    ) -> np.ndarray:
        """How often an object of one class bears another class as well.

        Args:
            direction: 'given_row': r[i, j] = P(j | i); 'given_col': the transpose.
            expanded: count ancestors as labels of the object.

        Returns:
            float64 (C, C) in [0, 1], zero diagonal; 0 where a class has no object.
        """
        if direction not in ('given_row', 'given_col'):
            raise ValueError(
                "`direction` must be 'given_row' or 'given_col', got " + repr(direction)
            )
        pairs = self.pair_count(expanded).astype(np.float64)
        num = pairs.diagonal().copy()
        rate = pairs / np.maximum(num, 1.0)[:, None]
        np.fill_diagonal(rate, 0.0)
        return rate if direction == 'given_row' else rate.T.copy()

    def check_classes(self, class_names: Sequence[str]) -> None:
        """Raise ValueError, listing what differs, unless the class names are these.

        Statistics of another dataset would weigh the wrong classes without a sign.
        """
        difference = checks.class_difference(tuple(class_names), self.class_names)
        if difference:
            raise ValueError(
                f'the class statistics belong to another dataset: {difference}. Count '
                'again with `python tools/class_stats.py CONFIG --out FILE`.'
            )

    def save(self, path: str | Path) -> None:
        """Write to a JSON file, whole or not at all."""
        write_text_atomically(path, json.dumps(self.to_dict(), indent=1) + '\n')

    @classmethod
    def load(cls, path: str | Path) -> 'ClassStats':
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: the file does not exist.
            ValueError: not such a file, of another version, or with values that
                cannot be; the message names the file.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(
                f'class statistics {str(path)!r} do not exist; make them with '
                f'`python tools/class_stats.py CONFIG --out {path}`'
            )
        try:
            return cls.from_dict(json.loads(path.read_text(encoding='utf-8')))
        except json.JSONDecodeError as error:
            raise ValueError(
                f'{path}, line {error.lineno}: not valid JSON ({error.msg})'
            ) from error
        except (ValueError, TypeError) as error:
            raise ValueError(f'{path}: {error}') from error

    def to_dict(self) -> dict:
        """Content of the file: plain lists, matrices as lists of their entries."""
        child, ancestor = np.nonzero(
            self.ancestor_matrix & ~np.eye(self.num_classes, dtype=bool)
        )
        data = {
            'format': FILE_FORMAT,
            'version': FILE_VERSION,
            'fingerprint': self.fingerprint,
            'num_images': self.num_images,
            'class_names': list(self.class_names),
            'freq_group': self.freq_group.tolist(),
            'ancestor_pairs': np.stack([child, ancestor], axis=1).tolist(),
        }
        for prefix in ('', 'expanded_') if self._is_expanded else ('',):
            for name in _ARRAYS:
                data[prefix + name] = getattr(self, prefix + name).tolist()
        return data

    @classmethod
    def from_dict(cls, data: Mapping) -> 'ClassStats':
        """Inverse of `to_dict`; ValueError for other formats, versions and keys."""
        if not isinstance(data, Mapping) or data.get('format') != FILE_FORMAT:
            raise ValueError('not a file of class statistics (no such "format" in it)')
        if data.get('version') != FILE_VERSION:
            raise ValueError(
                f'version {data.get("version")!r} of the file format, this package '
                f'reads {FILE_VERSION}; count again with tools/class_stats.py'
            )
        data = {k: v for k, v in data.items() if k not in ('format', 'version')}
        known = {f for f in cls.__dataclass_fields__ if f != 'ancestor_matrix'}
        for what, keys in (
            ('unknown', sorted(set(data) - known - {'ancestor_pairs'})),
            ('missing', sorted(_REQUIRED - set(data))),
        ):
            if keys:
                raise ValueError(f'{what} key(s) {keys} in class statistics')
        pairs = checks.label_pairs(data.pop('ancestor_pairs'))
        num = len(data['class_names'])
        if pairs.size and not 0 <= pairs.min() <= pairs.max() < num:
            raise ValueError(f'"ancestor_pairs" must hold labels in [0, {num})')
        matrix = np.eye(num, dtype=bool)
        matrix[pairs[:, 0], pairs[:, 1]] = True
        return cls(ancestor_matrix=matrix, **data)

    @property
    def _is_expanded(self) -> bool:
        return self.expanded_instance_count is not None


_ARRAYS = ('img_count', 'instance_count', 'pair_rows', 'pair_cols', 'pair_values')
_REQUIRED = {'class_names', 'num_images', 'ancestor_pairs', *_ARRAYS}


def freq_groups(
    img_count: np.ndarray, thresholds: tuple[int, int] = FREQ_THRESHOLDS
) -> np.ndarray:
    """Frequency group of each class by its number of training images.

    Args:
        img_count: int (C,).
        thresholds: the largest numbers of a rare and of a common class; LVIS: 10, 100.

    Returns:
        'r', 'c' or 'f', (C,). No images at all is 'r'.
    """
    rare, common = thresholds
    if not 0 <= rare <= common:
        raise ValueError(f'`thresholds` must rise from 0 on, got {tuple(thresholds)}')
    group = np.digitize(np.asarray(img_count), [rare, common], right=True)
    return np.array(['r', 'c', 'f'])[group]
