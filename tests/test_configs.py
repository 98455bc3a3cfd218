"""Every config parses, names registered types only, and builds its model."""

import ast
import re
from functools import cache

import pytest
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from tests.helpers.config_files import CONFIG_DIR, config_files, find_type, walk

CONFIGS = config_files()
MAX_LINES = 25
# What a config must not know: somebody's folders, the environment, imports that the
# registries do by themselves.
FORBIDDEN = ('work_dir', 'environ', 'custom_imports', '/home/', '/mnt/', '/data/')


@cache
def read(name: str) -> Config:
    return Config.fromfile(str(CONFIG_DIR / name))


@pytest.fixture(autouse=True)
def host_scope():
    init_default_scope('mmdet')


def all_files() -> list[str]:
    return sorted(str(p.relative_to(CONFIG_DIR)) for p in CONFIG_DIR.rglob('*.py'))


def statements(name: str) -> list[str]:
    lines = (CONFIG_DIR / name).read_text().splitlines()
    return [line for line in lines if line.strip() and not line.strip().startswith('#')]


def test_there_are_configs():
    assert len(CONFIGS) >= 12


@pytest.mark.parametrize('name', CONFIGS)
def test_every_type_is_registered(name):
    unknown = [
        f'{path}={value!r}'
        for path, value in walk(read(name)._cfg_dict.to_dict())
        if path.endswith('type') and isinstance(value, str) and not is_name(path)
        if find_type(value) is None
    ]
    assert unknown == []


def is_name(path: str) -> bool:
    """Whether a key called `type` is data and no class."""
    return path.endswith(
        ('multiprocessing.type', 'tokenizer.type', 'class_weight.type')
    )


def test_a_misspelt_type_is_noticed():
    assert find_type('FasterRCNN') is not None
    assert find_type('mmdet_imbalance.EfficientNetLite') is not None
    assert find_type('FasterRCNNN') is None
    # Without the prefix ours are not found, or the host's is, of the same name.
    assert find_type('EfficientNetLite') is None


@pytest.mark.parametrize('name', CONFIGS)
def test_model_builds_without_a_download(name):
    cfg = read(name).copy()
    model = MODELS.build(cfg.model)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) > 0


@pytest.mark.parametrize('name', CONFIGS)
def test_class_count_is_the_same_everywhere(name):
    """Head, loss and dataset agree: one variable feeds them all."""
    cfg = read(name)
    model = cfg.model.to_dict() if hasattr(cfg.model, 'to_dict') else dict(cfg.model)
    counts = {
        path: value
        for path, value in walk(model)
        if path.endswith('num_classes') and 'rpn_head' not in path
    }
    assert counts, 'no part of the model says how many classes there are'
    assert len(set(counts.values())) == 1, counts


@pytest.mark.parametrize('name', CONFIGS)
def test_class_count_is_typed_at_most_once_a_file(name):
    tree = ast.parse((CONFIG_DIR / name).read_text())
    typed = [
        node.value.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword)
        and node.arg == 'num_classes'
        and isinstance(node.value, ast.Constant)
    ]
    assert len(typed) <= 1, f'lines {typed} repeat the number: use a variable'


@pytest.mark.parametrize('name', CONFIGS)
def test_config_is_a_short_diff(name):
    text = (CONFIG_DIR / name).read_text()
    assert '_base_' in text
    assert len(statements(name)) <= MAX_LINES


@pytest.mark.parametrize('name', all_files())
def test_config_holds_no_folder_of_a_machine(name):
    text = '\n'.join(statements(name))
    assert [word for word in FORBIDDEN if re.search(re.escape(word), text)] == []


@pytest.mark.parametrize('name', CONFIGS)
def test_every_named_class_of_ours_bears_the_prefix(name):
    from mmengine.registry import Registry

    import mmdet_imbalance.registry as ours

    known = {
        key
        for registry in vars(ours).values()
        if isinstance(registry, Registry) and registry.scope == 'mmdet_imbalance'
        for key in registry.module_dict
    }
    tree = ast.parse((CONFIG_DIR / name).read_text())
    bare = [
        node.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword)
        and node.arg == 'type'
        and isinstance(node.value, ast.Constant)
        and node.value.value in known
        and find_type(node.value.value) is None
    ]
    assert bare == []


@pytest.mark.parametrize('name', CONFIGS)
def test_learning_rate_can_be_scaled_with_the_batch(name):
    cfg = read(name)
    assert cfg.get('auto_scale_lr', {}).get('base_batch_size', 0) > 0
