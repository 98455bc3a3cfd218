"""Hooks and what the command-line tools share."""

from mmdet_imbalance.engine import hooks  # noqa: F401
