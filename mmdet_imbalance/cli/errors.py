"""Errors of a tool: one line that says what is wrong and what to do, exit code 2."""

import argparse
import errno
import functools
import inspect
import os
import re
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from json import JSONDecodeError
from types import TracebackType
from typing import Any

TRACEBACK_VARIABLE = 'MMDET_IMBALANCE_TRACEBACK'
EXIT_CODE = 2
#: Fields that the host's COCO dataset reads without asking whether they are there.
# fmt: off
COCO_FIELDS = frozenset((
    'images', 'annotations', 'categories', 'id', 'image_id', 'category_id', 'name',
    'bbox', 'area', 'file_name', 'height', 'width', 'iscrowd',
))
# fmt: on


class ToolError(Exception):
    """Something the user can put right; its text is the whole message."""


class LateError(Exception):
    """Wraps an error that appears once work is under way.

    Hours into a training the way to an error is worth more than a short message, so
    its traceback is printed as well.
    """


def tool_parser(description: str, example: str) -> argparse.ArgumentParser:
    """Parser of a tool, with an example at the end of `--help`.

    Args:
        description: what the tool does, one sentence.
        example: command lines that work as they stand.
    """
    parser = argparse.ArgumentParser(
        description=description,
        epilog=f'example:\n  {example}',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--traceback',
        action='store_true',
        help='show the whole traceback of an error, not one line '
        f'(also {TRACEBACK_VARIABLE}=1)',
    )
    return parser


def command_line(main: Callable[[Sequence[str]], Any]) -> Callable[..., int]:
    """Wrap `main(argv)` of a tool: its errors become one line and exit code 2.

    The wrapped function takes `argv` (default: the arguments of the process) and
    returns the exit code; a tool ends with `sys.exit(main())`.
    """

    @functools.wraps(main)
    def wrapped(argv: Sequence[str] | None = None) -> int:
        argv = list(sys.argv[1:] if argv is None else argv)
        try:
            main(argv)
        except KeyboardInterrupt:
            print('interrupted', file=sys.stderr)
            return 130
        except Exception as error:
            if '--traceback' in argv or os.environ.get(TRACEBACK_VARIABLE):
                raise
            if isinstance(error, LateError) and error.__cause__ is not None:
                error = error.__cause__
                if not isinstance(error, OSError | ToolError):
                    sys.excepthook(type(error), error, error.__traceback__)
            print(f'error: {_rank()}{one_line(error)}', file=sys.stderr)
            return EXIT_CODE
        return 0

    return wrapped


def _rank() -> str:
    rank = os.environ.get('RANK') or os.environ.get('SLURM_PROCID', '0')
    return '' if rank == '0' else f'[rank {rank}] '


def one_line(error: BaseException) -> str:
    """One line for any exception, with what to do where that is known."""
    text = ' '.join(_text(error).split())
    if isinstance(error, ToolError):
        return text
    hint = next((hint for rule in _RULES if (hint := rule(error, text))), None)
    if hint:
        return ' '.join(hint.split())
    # A message in words, as opposed to the bare key of a `KeyError`, speaks for itself.
    spoken = (ValueError, ImportError, KeyError, AssertionError)
    if isinstance(error, spoken) and ' ' in text:
        return text
    return f'{type(error).__name__}: {text} (--traceback shows where)'


def _text(error: BaseException) -> str:
    """Message of an exception; of a data-loader worker's, the last line."""
    if isinstance(error, KeyError) and len(error.args) == 1:
        text = str(error.args[0])
    else:
        text = str(error)
    if 'Original Traceback' in text:
        text = text.strip().splitlines()[-1]
    return text


# --- rules: each looks at one kind of error and gives the line, or None ---------------
def _missing_file(error: BaseException, text: str) -> str | None:
    if not isinstance(error, FileNotFoundError):
        return None
    named = getattr(error, 'filename', None)
    match = re.search(
        r"No such file or directory: '?([^']+)'?|(\S+) can not be found", text
    )
    name = named or (match and (match[1] or match[2]))
    what = f'file not found: {name}' if name else text
    return (
        f'{what}. Paths are relative to the working directory; '
        '--data-root DIR (make: DATA=DIR) says where the data are'
    )


def _no_space(error: BaseException, text: str) -> str | None:
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    if not isinstance(error, OSError) or error.errno not in full:
        return None
    file = f' {error.filename}' if error.filename else ''
    return (
        f'the disk is full ({error.strerror}): cannot write{file}. Free some space, '
        'then go on with --resume: the last complete checkpoint is untouched'
    )


def _broken_annotation(error: BaseException, text: str) -> str | None:
    names = ('annotation_file', 'local_path', 'ann_file')
    frames = (_from_traceback(error.__traceback__, name) for name in names)
    file = next((found for found in frames if isinstance(found, str)), None)
    if isinstance(error, JSONDecodeError):
        return f'{file or "an annotation file"} is no valid JSON: {text}'
    if isinstance(error, KeyError) and text in COCO_FIELDS:
        return f'{file or "the annotation file"}: the field {text!r} is missing'
    return None


def _port_in_use(error: BaseException, text: str) -> str | None:
    in_use = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
    if not (in_use or 'EADDRINUSE' in text or 'address already in use' in text.lower()):
        return None
    port = os.environ.get('MASTER_PORT', '?')
    return (
        f'port {port} is in use; choose another one: PORT=29511 tools/dist_train.sh …'
    )


def _unknown_type(error: BaseException, text: str) -> str | None:
    match = re.match(r'(\S+) is not in the (\S+)::(.+?) registry', text)
    if not isinstance(error, KeyError) or not match:
        return None
    name, scope, kind = match.groups()
    registry = _from_traceback(error.__traceback__, 'registry')
    suggestion = _did_you_mean(name, _registered_names(registry))
    return f'unknown type {name!r} ({kind} registry of {scope})' + (
        suggestion or "; types of this package carry the prefix 'mmdet_imbalance.'"
    )


def _unknown_argument(error: BaseException, text: str) -> str | None:
    match = re.search(r"got an unexpected keyword argument '(\w+)'", text)
    if not isinstance(error, TypeError) or not match:
        return None
    name = match.group(1)
    built = _from_traceback(error.__traceback__, 'obj_cls')
    if built is None:
        return None
    known = sorted(_argument_names(built))
    suggestion = _did_you_mean(name, known) or f'; it takes {", ".join(known)}'
    return f'{built.__name__} has no argument {name!r}{suggestion}'


def _no_gpu(error: BaseException, text: str) -> str | None:
    lowered = text.lower()
    if 'amp' in lowered and 'only available' in lowered:
        return 'AMP needs a GPU, and none is visible: leave out --amp'
    if any(
        mark in lowered
        for mark in ('no nvidia driver', 'no cuda gpus', 'invalid device')
    ):
        return f'a GPU is asked for, but none is visible ({text})'
    return None


def _unknown_optimizer(error: BaseException, text: str) -> str | None:
    # The host inspects the class that it looked up without asking whether it is there.
    cfg = _from_traceback(error.__traceback__, 'optimizer_cfg')
    if 'None is not a callable' not in text or not isinstance(cfg, dict):
        return None
    from mmengine.registry import OPTIMIZERS

    name = str(cfg.get('type'))
    return (
        f'unknown optimizer {name!r}{_did_you_mean(name, list(OPTIMIZERS.module_dict))}'
    )


def _missing_package(error: BaseException, text: str) -> str | None:
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return None
    package = error.name.split('.')[0]
    return f'the config needs the package {package!r}: pip install {package}'


def _no_download(error: BaseException, text: str) -> str | None:
    if type(error).__name__ not in ('URLError', 'HTTPError', 'ConnectionError'):
        return None
    return (
        f'pretrained weights cannot be downloaded ({text}): put the file on this '
        "machine and name it in the model's `init_cfg.checkpoint` or in `load_from`"
    )


def _no_images(error: BaseException, text: str) -> str | None:
    if 'need at least one array to concatenate' not in text:
        return None
    return (
        'a dataset has no images: either `filter_cfg` dropped them all, or no name in '
        'its `metainfo.classes` is in the annotation file'
    )


_RULES = (
    _no_space,
    _no_images,
    _broken_annotation,
    _no_download,
    _missing_file,
    _missing_package,
    _port_in_use,
    _unknown_type,
    _unknown_argument,
    _unknown_optimizer,
    _no_gpu,
)


def _from_traceback(traceback: TracebackType | None, variable: str) -> Any:
    """Value of a local variable in the innermost frame that has it."""
    value = None
    while traceback is not None:
        frame = traceback.tb_frame
        value = frame.f_locals.get(variable, value)
        traceback = traceback.tb_next
    return value


def _registered_names(registry: Any) -> list[str]:
    """Names that a config can write, with the prefix for those of this package."""
    if registry is None:
        return []
    names = list(registry.module_dict)
    if registry.parent is not None:
        names += list(registry.parent.module_dict)
    from mmdet_imbalance import registry as own

    for child in vars(own).values():
        if getattr(child, 'name', None) == registry.name and hasattr(child, 'scope'):
            child.import_from_location()
            names += [f'{child.scope}.{name}' for name in child.module_dict]
    return names


def _argument_names(built: Any) -> set[str]:
    """Names of the constructor's arguments, through all bases that take `**kwargs`."""
    classes = inspect.getmro(built) if inspect.isclass(built) else (built,)
    names: set[str] = set()
    for cls in classes:
        function = vars(cls).get('__init__') if inspect.isclass(cls) else cls
        if not inspect.isfunction(function):
            continue
        parameters = inspect.signature(function).parameters.values()
        names.update(
            p.name
            for p in parameters
            if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        )
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return names - {'self'}


def _did_you_mean(name: str, known: Sequence[str]) -> str:
    """The clause '; did you mean …?', empty where nothing comes near."""
    # Compared without prefix: forgetting it is the commonest slip.
    bare = {candidate.split('.')[-1]: candidate for candidate in known}
    close = get_close_matches(name.split('.')[-1], bare, n=1)
    return f'; did you mean {bare[close[0]]!r}?' if close else ''
