"""What `tools/train.py` adds to a config so that a long run survives interruptions."""

from typing import TYPE_CHECKING, Any

from mmdet_imbalance.cli.errors import ToolError

if TYPE_CHECKING:
    from mmengine.config import Config

HOOKS = ('ExactResumeHook', 'PreemptionHook')


def make_resumable(cfg: 'Config') -> None:
    """Add atomic checkpoints, a checkpoint on SIGTERM and exact resuming.

    The host's `CheckpointHook` is replaced by one with the same arguments; one that
    writes to other storage, and whatever the config has of these already, stays.
    """
    if 'runner_type' in cfg:
        # Strategies such as DeepSpeed write checkpoints of many files in their own way.
        return
    hooks = cfg.setdefault('default_hooks', {})
    checkpoint = hooks.setdefault('checkpoint', {'type': 'CheckpointHook'})
    is_local = checkpoint is not None and not (
        checkpoint.get('backend_args')
        or checkpoint.get('file_client_args')
        or '://' in str(checkpoint.get('out_dir'))
    )
    if is_local and checkpoint['type'] in ('CheckpointHook', 'mmengine.CheckpointHook'):
        checkpoint['type'] = 'mmdet_imbalance.SafeCheckpointHook'
    custom = list(cfg.get('custom_hooks') or [])
    present = {str(hook.get('type')).split('.')[-1] for hook in custom}
    cfg.custom_hooks = custom + [
        {'type': f'mmdet_imbalance.{name}'} for name in HOOKS if name not in present
    ]
    if counts_epochs(cfg.train_cfg):
        wrap_batch_sampler(cfg.train_dataloader)


def counts_epochs(train_cfg: dict[str, Any]) -> bool:
    """Whether the host's epoch loop will run."""
    if 'type' in train_cfg:
        return train_cfg['type'] in ('EpochBasedTrainLoop',)
    return bool(train_cfg.get('by_epoch', 'max_epochs' in train_cfg))


def wrap_batch_sampler(loader: dict[str, Any]) -> None:
    """Let the batches of a data loader's config begin in the middle of an epoch."""
    inner = loader.get('batch_sampler')
    name = 'mmdet_imbalance.ResumableBatches'
    if inner is not None and inner.get('type') == name:
        return
    wrapper: dict[str, Any] = {'type': name, 'inner': inner}
    # torch refuses `drop_last` beside a batch sampler.
    if inner is None and loader.pop('drop_last', False):
        wrapper['drop_last'] = True
    loader['batch_sampler'] = wrapper


def skip_unreadable_images(cfg: 'Config', most: int) -> None:
    """Replace the loading of training images by one that leaves broken files out.

    Args:
        cfg: changed in place, in every pipeline of the training data.
        most: broken files at which a process gives up.

    Raises:
        ToolError: a negative number, or no loading step of the host.
    """
    if most < 0:
        raise ToolError(f'--skip-unreadable must not be negative, got {most}')
    found = 0
    nodes: list[Any] = [cfg.train_dataloader.dataset]
    while nodes:
        node = nodes.pop()
        if isinstance(node, dict):
            if node.get('type') in ('LoadImageFromFile', 'mmcv.LoadImageFromFile'):
                node['type'] = 'mmdet_imbalance.LoadReadableImage'
                node['max_unreadable'] = most
                found += 1
            nodes += node.values()
        elif isinstance(node, list | tuple):
            nodes += node
    if not found:
        raise ToolError(
            '--skip-unreadable: no LoadImageFromFile in the pipeline of the training '
            'data'
        )
