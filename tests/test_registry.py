"""How configs find the classes of the package, and what an import costs."""

import subprocess
import sys

import mmdet.registry
import mmengine.registry
import pytest
from mmengine.registry import init_default_scope
from torch import nn

from mmdet_imbalance import registry as own

NAMES = [
    name
    for name, value in vars(own).items()
    if getattr(value, 'scope', '') == 'mmdet_imbalance'
]


def test_all_registries_are_children_of_the_framework():
    assert sorted(NAMES) == sorted(
        [
            'MODELS',
            'TASK_UTILS',
            'DATASETS',
            'DATA_SAMPLERS',
            'TRANSFORMS',
            'METRICS',
            'HOOKS',
            'VISUALIZERS',
        ]
    )
    for name in NAMES:
        assert getattr(own, name).parent is getattr(mmengine.registry, name)


@pytest.mark.parametrize('name', NAMES)
def test_prefix_is_found_from_the_registries_of_the_host(name):
    registry = getattr(own, name)
    registry.import_from_location()
    for key, cls in registry.module_dict.items():
        for other in (getattr(mmdet.registry, name), getattr(mmengine.registry, name)):
            assert other.get(f'mmdet_imbalance.{key}') is cls


def test_own_class_does_not_displace_one_of_the_host_that_has_its_name():
    init_default_scope('mmdet')

    class GHMC(nn.Module):
        pass

    from mmdet.models.losses import GHMC as HostGHMC

    own.MODELS.register_module(module=GHMC)
    try:
        assert mmdet.registry.MODELS.get('GHMC') is HostGHMC
        assert mmdet.registry.MODELS.get('mmdet_imbalance.GHMC') is GHMC
    finally:
        del own.MODELS._module_dict['GHMC']


def test_name_without_prefix_is_the_host_s():
    init_default_scope('mmdet')
    from mmdet.models.losses import QualityFocalLoss

    assert mmdet.registry.MODELS.get('QualityFocalLoss') is QualityFocalLoss
    # Through our registry too, because the default scope decides: always write it.
    built = own.MODELS.build({'type': 'QualityFocalLoss'})
    assert isinstance(built, QualityFocalLoss)


def test_every_public_class_is_registered_under_its_own_name():
    for name in NAMES:
        registry = getattr(own, name)
        registry.import_from_location()
        for key, cls in registry.module_dict.items():
            assert key == cls.__name__
            assert cls.__module__.startswith('mmdet_imbalance.')


IMPORT_IS_LIGHT = """
import sys
import mmdet_imbalance, mmdet_imbalance.cli
heavy = {'torch', 'mmengine', 'mmcv', 'mmdet', 'numpy'} & set(sys.modules)
assert not heavy, heavy
"""

FUNCTIONS_NEED_NO_HOST = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('mmengine', 'mmcv', 'mmdet'):
            raise ModuleNotFoundError(f'blocked: {name}')

sys.meta_path.insert(0, Blocker())
import mmdet_imbalance.functional as functional
assert functional.__all__
for name in functional.__all__:
    assert callable(getattr(functional, name)), name
try:
    import mmdet_imbalance.registry
except ImportError as error:
    assert 'mmdet-imbalance[host]' in str(error), error
else:
    raise AssertionError('the registry needs the host')
"""


@pytest.mark.parametrize('code', [IMPORT_IS_LIGHT, FUNCTIONS_NEED_NO_HOST])
def test_imports_in_a_fresh_interpreter(code, project_root):
    done = subprocess.run(
        [sys.executable, '-c', code],
        cwd=project_root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
