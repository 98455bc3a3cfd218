"""Modules whose buffers come from class statistics.

Shapes: C foreground classes. Deviations: none, this is plumbing.
"""

import torch
from torch import nn

STATS_HINT = (
    "Add `dict(type='mmdet_imbalance.ClassStatsHook')` to `custom_hooks`, or count "
    'once with `python tools/class_stats.py CONFIG --out FILE` and write '
    "`class_stats='FILE'` in the loss."
)


class ClassStatsBuffers(nn.Module):
    """Base of what `ClassStatsHook` fills; subclasses give `stats_values`.

    Args:
        num_classes: number C of foreground classes.
        class_stats: statistics of the training set, or the file that
            `tools/class_stats.py` wrote; None leaves them to `ClassStatsHook`. What
            stands here wins over the hook.
    """

    def __init__(self, num_classes: int, class_stats=None) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f'`num_classes` must be at least 1, got {num_classes}')
        self.num_classes = num_classes
        self._stat_names: list[str] = []
        self._is_ready = True
        self._own_stats = None if class_stats is None else self._checked(class_stats)

    # --- what a subclass gives ---------------------------------------------------
    def stats_values(self, stats) -> dict:
        """Value of every registered statistic, by name."""
        return {}

    def stats_changed(self) -> None:
        """Called after the statistics were set or loaded: renew what is derived."""

    # --- shared -----------------------------------------------------------------
    def register_stats(self, **shapes: tuple[int, ...]) -> None:
        """Declare persistent buffers that come from class statistics.

        They are in the checkpoint, so a model that was trained with statistics can be
        tested without. Until statistics come they are nan and the loss refuses to run.

        Args:
            **shapes: shape of each buffer, by name.
        """
        for name, shape in shapes.items():
            self._register_unset(name, shape, torch.float32)
        if self._own_stats is not None:
            self._fill(self.stats_values(self._own_stats))

    def set_class_stats(self, stats) -> None:
        """Take the statistics of the training set (`ClassStatsHook` calls this).

        No effect where the config of the loss names statistics of its own.
        """
        stats = self._checked(stats)
        if self._own_stats is None:
            self._fill(self.stats_values(stats))

    def check_ready(self) -> None:
        """Raise RuntimeError, saying what to do, while statistics are missing."""
        if not self._is_ready:
            raise RuntimeError(
                f'{type(self).__name__} needs class statistics '
                f'({", ".join(self._stat_names)}) and has none. {STATS_HINT}'
            )

    def _register_unset(self, name: str, shape, dtype: torch.dtype) -> None:
        self.register_buffer(name, torch.full(tuple(shape), torch.nan, dtype=dtype))
        self._stat_names.append(name)
        self._is_ready = False

    def _checked(self, stats):
        if not hasattr(stats, 'instance_count'):
            from mmdet_imbalance.core.class_stats import ClassStats

            stats = ClassStats.load(stats)
        if len(stats.instance_count) != self.num_classes:
            raise ValueError(
                f'{type(self).__name__} has num_classes={self.num_classes}, but the '
                f'class statistics are of {len(stats.instance_count)} classes: they '
                'belong to another dataset'
            )
        return stats

    @torch.no_grad()
    def _fill(self, values: dict) -> None:
        for name in values:
            buffer = getattr(self, name)
            buffer.copy_(torch.as_tensor(values[name], dtype=buffer.dtype))
        self._renew()

    def _renew(self) -> None:
        self._is_ready = not any(
            bool(getattr(self, name).isnan().any()) for name in self._stat_names
        )
        if self._is_ready:
            self.stats_changed()

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        if self._own_stats is None:
            self._renew()
        else:
            # What stands in the config wins over a checkpoint of other data.
            self._fill(self.stats_values(self._own_stats))
