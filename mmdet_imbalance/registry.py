"""Child registries of mmengine's, scope `mmdet_imbalance`.

A host registry that meets the prefix `mmdet_imbalance.` imports this module by
itself, so a config needs no `custom_imports`, and a class here never clashes
with one of the host that bears the same name.
"""

from mmdet_imbalance.host import check_host

check_host()

from mmengine.registry import DATA_SAMPLERS as MMENGINE_DATA_SAMPLERS  # noqa: E402
from mmengine.registry import DATASETS as MMENGINE_DATASETS  # noqa: E402
from mmengine.registry import HOOKS as MMENGINE_HOOKS  # noqa: E402
from mmengine.registry import METRICS as MMENGINE_METRICS  # noqa: E402
from mmengine.registry import MODELS as MMENGINE_MODELS  # noqa: E402
from mmengine.registry import TASK_UTILS as MMENGINE_TASK_UTILS  # noqa: E402
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS  # noqa: E402
from mmengine.registry import VISUALIZERS as MMENGINE_VISUALIZERS  # noqa: E402
from mmengine.registry import Registry  # noqa: E402


def _child(name: str, parent: Registry, location: str) -> Registry:
    return Registry(
        name,
        parent=parent,
        scope='mmdet_imbalance',
        locations=[f'mmdet_imbalance.{location}'],
    )


MODELS = _child('model', MMENGINE_MODELS, 'models')
TASK_UTILS = _child('task util', MMENGINE_TASK_UTILS, 'models')
DATASETS = _child('dataset', MMENGINE_DATASETS, 'datasets')
DATA_SAMPLERS = _child('data sampler', MMENGINE_DATA_SAMPLERS, 'datasets')
TRANSFORMS = _child('transform', MMENGINE_TRANSFORMS, 'datasets')
METRICS = _child('metric', MMENGINE_METRICS, 'evaluation')
HOOKS = _child('hook', MMENGINE_HOOKS, 'engine')
VISUALIZERS = _child('visualizer', MMENGINE_VISUALIZERS, 'visualization')
