"""Label prior: how often a model believes that an object bears each class.

The counts of partly annotated data mislead (a class that annotators rarely pick may be
everywhere), so the prior of Ben-Baruch et al., CVPR 2022, arXiv 2110.10955, is the mean
probability that a model trained in ignore mode predicts.

Shapes: C foreground classes.  Deviations: none.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmdet_imbalance.core.atomic_write import write_text_atomically

FILE_FORMAT = 'mmdet_imbalance.label_prior'


@dataclass(eq=False)
class LabelPrior:
    """Mean predicted probability of each class.

    Attributes:
        class_names: names of the C classes, in label order.
        prior: float64 (C,), in [0, 1].
        num_rows: foreground RoIs that the mean is over.
    """

    class_names: Sequence[str]
    prior: np.ndarray
    num_rows: int

    def __post_init__(self) -> None:
        self.class_names = tuple(str(name) for name in self.class_names)
        self.prior = np.asarray(self.prior, dtype=np.float64)
        if self.prior.shape != (len(self.class_names),):
            raise ValueError(
                f'`prior` must have {len(self.class_names)} values, got shape '
                f'{self.prior.shape}'
            )
        if not ((self.prior >= 0) & (self.prior <= 1)).all():
            raise ValueError('`prior` must lie in [0, 1]')

    def ignored(self, prior_thr: float) -> list[str]:
        """Classes with a prior above `prior_thr`, the likeliest first."""
        order = np.argsort(-self.prior, kind='stable')
        return [self.class_names[i] for i in order if self.prior[i] > prior_thr]

    def ignored_line(self, prior_thr: float) -> str:
        """How many and which classes a threshold ignores."""
        names = self.ignored(prior_thr)
        shown = ', '.join(names[:10]) + (', ...' if len(names) > 10 else '')
        return (
            f'prior_thr={prior_thr:g} ignores {len(names)} of '
            f'{len(self.class_names)} classes{": " + shown if names else ""}'
        )

    def summary(self, thresholds: Sequence[float] = (0.05, 0.5)) -> str:
        """How many and which classes each threshold ignores, a line each."""
        lines = [f'label prior over {self.num_rows} foreground RoIs']
        lines += [f'  {self.ignored_line(thr)}' for thr in thresholds]
        return '\n'.join(lines)

    def save(self, path: str | Path) -> None:
        """Write a JSON file, whole or not at all."""
        data = {
            'format': FILE_FORMAT,
            'class_names': self.class_names,
            'prior': self.prior.tolist(),
            'num_rows': self.num_rows,
        }
        write_text_atomically(path, json.dumps(data, indent=1) + '\n')

    @classmethod
    def load(cls, path: str | Path) -> 'LabelPrior':
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: the file does not exist.
            ValueError: not such a file, or values that cannot be.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(
                f'label prior {str(path)!r} does not exist; `LabelPriorHook` writes it '
                'while a model trains in ignore mode'
            )
        try:
            data = json.loads(path.read_text(encoding='utf-8'))
            if data.get('format') != FILE_FORMAT:
                raise ValueError('not a file of label priors')
            return cls(data['class_names'], data['prior'], data['num_rows'])
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f'{path}: {error}') from error
