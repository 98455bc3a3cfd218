"""The project's configs: which there are, and what is in them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.registry import DefaultScope

ROOT = Path(__file__).resolve().parents[2]
CONFIG_DIR = ROOT / 'configs'


def config_files() -> list[str]:
    """Every config that can be trained, relative to `configs/`."""
    return sorted(
        str(path.relative_to(CONFIG_DIR))
        for path in CONFIG_DIR.rglob('*.py')
        if '_base_' not in path.parts
    )


def walk(node: Any, path: str = '') -> Iterator[tuple[str, Any]]:
    """Every (dotted path, value) below a config's node, the node included."""
    yield path, node
    if isinstance(node, dict):
        children = node.items()
    elif isinstance(node, list | tuple):
        children = enumerate(node)
    else:
        return
    for key, child in children:
        yield from walk(child, f'{path}.{key}' if path else str(key))


def find_type(name: str) -> Any:
    """What the host's registries build for `name`, or None.

    Ours are reached through the prefix only, as they are in a training.
    """
    import mmcv.ops
    import mmdet.registry
    from mmengine.registry import Registry

    if DefaultScope.get_current_instance() is None:
        raise RuntimeError('set the default scope first')
    for registry in vars(mmdet.registry).values():
        if isinstance(registry, Registry):
            found = registry.get(name)
            if found is not None:
                return found
    # `nms=dict(type='nms')` and RoI layers name functions and classes of mmcv.
    return getattr(mmcv.ops, name, None)
