"""Parts of assignment and sampling."""

from mmdet_imbalance.models.task_modules import samplers  # noqa: F401
