"""What `tools/train.py` and `tools/test.py` do around the host's runner."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmdet_imbalance.cli.errors import LateError, ToolError

if TYPE_CHECKING:
    from mmengine.config import Config
    from mmengine.runner import Runner


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that training and testing share."""
    parser.add_argument(
        '--work-dir',
        help="logs and checkpoints (default: work_dirs/ and the config's name)",
    )
    parser.add_argument(
        '--device',
        choices=['auto', 'cpu', 'cuda'],
        default='auto',
        help='auto: a GPU where there is one',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='who started this process; set by dist_*.sh and slurm_*.sh',
    )
    # torch's old launcher passes it; torchrun sets the variable.
    parser.add_argument(
        '--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS
    )


def choose_device(device: str) -> None:
    """Make the choice of `--device` before anything touches a GPU.

    Raises:
        ToolError: 'cuda' where no GPU is visible.
    """
    if device == 'cpu':
        # The host picks a GPU wherever it sees one.
        os.environ['CUDA_VISIBLE_DEVICES'] = ''
    elif device == 'cuda' and not has_gpu():
        raise ToolError('--device cuda: no GPU is visible; leave it out to use the CPU')


def has_gpu() -> bool:
    """Whether torch sees a CUDA device."""
    import torch

    return torch.cuda.is_available()


def prepare(cfg: 'Config', args: argparse.Namespace) -> None:
    """Put the shared options into the config, and check them against the machine."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs', Path(args.config).stem))
    if str(cfg.get('device', '')).startswith('cuda') and not has_gpu():
        raise ToolError(f'device={cfg.device!r} in the config: no GPU is visible')
    if args.launcher != 'none':
        _prepare_processes(cfg, args.launcher)


def _prepare_processes(cfg: 'Config', launcher: str) -> None:
    import torch

    if launcher == 'pytorch' and 'RANK' not in os.environ:
        raise ToolError(
            '--launcher pytorch is for processes that torchrun started: use '
            'tools/dist_train.sh CONFIG NUM_PROCESSES'
        )
    if launcher == 'slurm' and 'SLURM_PROCID' not in os.environ:
        raise ToolError('--launcher slurm is for srun: use tools/slurm_train.sh')
    num_gpus = torch.cuda.device_count() if has_gpu() else 0
    local_rank = int(os.environ['LOCAL_RANK'])
    if num_gpus:
        if launcher == 'pytorch' and local_rank >= num_gpus:
            raise ToolError(
                f'process {local_rank + 1} of this machine needs a GPU of its own, '
                f'{num_gpus} visible: start {num_gpus} processes'
            )
        return
    if launcher != 'pytorch':
        raise ToolError(f'--launcher {launcher} needs GPUs, and none is visible')
    # Without a GPU the host would ask for NCCL and for CUDA device `local_rank`.  It
    # leaves a process group alone that exists already.
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group('gloo')
    wrapper = cfg.get('model_wrapper_cfg') or {
        'type': 'MMDistributedDataParallel',
        'broadcast_buffers': False,
        'find_unused_parameters': cfg.get('find_unused_parameters', False),
    }
    cfg.model_wrapper_cfg = {**wrapper, 'device_ids': None}


def enable_amp(cfg: 'Config') -> None:
    """Turn on automatic mixed precision."""
    if not has_gpu():
        raise ToolError('--amp needs a GPU, and none is visible: leave out --amp')
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')


def enable_auto_scale_lr(cfg: 'Config') -> None:
    """Turn on the linear scaling of the learning rate with the total batch size."""
    settings = cfg.get('auto_scale_lr')
    if not settings or 'base_batch_size' not in settings:
        raise ToolError(
            '--auto-scale-lr: the config has no `auto_scale_lr.base_batch_size`, the '
            'total batch size that its learning rate is meant for'
        )
    settings.enable = True


def resume_from(cfg: 'Config', checkpoint: str) -> None:
    """Continue a run: 'auto' is the last complete checkpoint of the work folder.

    The data samplers are built before the host restores the checkpoint's seed, so an
    unpinned seed is read here: the resumed run then sees the very same stream.
    """
    from mmdet_imbalance.cli.config import checked_file

    cfg.resume = True
    if checkpoint == 'auto':
        found = last_complete_checkpoint(Path(cfg.work_dir))
        if found is None:
            # The host takes the marker's word for it, so it must not look there.
            cfg.resume, cfg.load_from = False, None
            print(f'--resume: no checkpoint in {cfg.work_dir}, the run begins anew')
            return
        path, content = found
        cfg.load_from = str(path)
    else:
        cfg.load_from = checked_file(checkpoint, 'checkpoint')
        content = {} if '://' in checkpoint else load_checkpoint(checkpoint)
    seed = content.get('meta', {}).get('seed')
    if seed is not None and cfg.get('randomness', {}).get('seed') is None:
        cfg.randomness = {**cfg.get('randomness', {}), 'seed': seed}


def last_complete_checkpoint(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """Newest checkpoint of a work folder that can be read, and what is in it.

    The host's marker `last_checkpoint` says which one that should be.  One that a kill
    or a full disk cut off is passed over with a warning.

    Raises:
        ToolError: there are checkpoints, and none of them can be read.
    """
    marker = folder / 'last_checkpoint'
    marked = marker.read_text(errors='replace').strip() if marker.is_file() else ''
    # `best_*.pth` has no optimiser.
    paths = {p for kind in ('epoch', 'iter') for p in folder.glob(f'{kind}_*.pth')}
    candidates = sorted(paths, key=lambda path: path.stat().st_mtime_ns, reverse=True)
    if marked:
        # The folder may have been moved; other storage is not looked into.
        here = folder / Path(marked).name
        first = here if here.is_file() else Path(marked)
        candidates = [first, *(path for path in candidates if path != first)]
    for path in candidates:
        try:
            content = load_checkpoint(str(path))
        except (FileNotFoundError, ToolError) as error:
            reason = str(error) if isinstance(error, ToolError) else f'{path} is gone'
            print(f'warning: --resume: {reason}; trying the one before')
            continue
        if 'optimizer' in content:
            print(f'--resume: continuing from {path}')
            return path, content
    if candidates:
        raise ToolError(
            f'--resume: no complete checkpoint in {folder} '
            f'({len(candidates)} tried); leave out --resume to begin anew'
        )
    return None


def load_checkpoint(path: str) -> dict[str, Any]:
    """Read a checkpoint without unpickling anything but known classes."""
    import torch

    from mmdet_imbalance.host import allow_resume

    allow_resume()
    try:
        checkpoint = torch.load(path, map_location='cpu', weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ToolError(
            f'{path} is no checkpoint, or an incomplete one '
            f'({type(error).__name__} on reading it)'
        ) from error
    if not isinstance(checkpoint, dict) or 'state_dict' not in checkpoint:
        raise ToolError(f'{path} is no checkpoint of a run: it has no `state_dict`')
    return checkpoint


def set_seed(cfg: 'Config', seed: int) -> None:
    """Pin the seed of the run, and with it the streams of the data samplers."""
    if seed < 0:
        raise ToolError(f'--seed must not be negative, got {seed}')
    cfg.randomness = {**cfg.get('randomness', {}), 'seed': seed}


def build_runner(cfg: 'Config') -> 'Runner':
    """The runner of the config, with a check of class counts before the first step."""
    from mmengine.registry import RUNNERS
    from mmengine.runner import Runner

    from mmdet_imbalance.cli.checks import ClassCountCheck
    from mmdet_imbalance.host import allow_resume

    allow_resume()
    runner = Runner.from_cfg(cfg) if 'runner_type' not in cfg else RUNNERS.build(cfg)
    runner.register_hook(ClassCountCheck(), priority='HIGHEST')
    return runner


def run(runner: 'Runner', phase: str) -> Any:
    """Call `runner.train()` or `runner.test()`; see `LateError` for what may fail.

    A training that a signal stopped has saved its state, says so, and is no error.
    """
    from mmdet_imbalance.cli.checks import FirstStep
    from mmdet_imbalance.engine.hooks.preemption_hook import Preempted, PreemptionHook

    first_step = FirstStep()
    runner.register_hook(first_step, priority='LOWEST')
    try:
        return getattr(runner, phase)()
    except Preempted as stop:
        runner.logger.info(str(stop))
        return None
    except Exception as error:
        if first_step.done:
            raise LateError(str(error)) from error
        raise
    finally:
        for hook in runner.hooks:
            if isinstance(hook, PreemptionHook):
                hook.close()
