"""The scripts of tools/ as modules, so that tests need no process for each."""

import functools
import importlib.util
from pathlib import Path
from types import ModuleType

TOOLS = Path(__file__).resolve().parents[2] / 'tools'


@functools.cache
def load_tool(name: str) -> ModuleType:
    """Module of tools/NAME.py; `main(argv)` returns the exit code."""
    spec = importlib.util.spec_from_file_location(f'tools_{name}', TOOLS / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tool_names() -> list[str]:
    """Names of all tools that are Python scripts."""
    return sorted(path.stem for path in TOOLS.glob('*.py'))
