"""Hook that estimates the label prior while a model trains in ignore mode.

Shapes: C foreground classes.  Ranks: each adds up its own rows, the hook adds up the
ranks, rank 0 writes.
"""

from pathlib import Path

import torch
from mmengine.dist import all_reduce, is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from torch import nn

from mmdet_imbalance.core.label_prior import LabelPrior
from mmdet_imbalance.models.losses.class_aware_selective import ClassAwareSelectiveLoss
from mmdet_imbalance.registry import HOOKS


def selective_loss(model: nn.Module) -> ClassAwareSelectiveLoss:
    """The one loss of a model, wrapped or not, that can keep a label prior.

    Raises:
        ValueError: not exactly one such loss, or one in a mode that has already pushed
            the un-annotated classes down.
    """
    model = model.module if is_model_wrapper(model) else model
    found = [m for m in model.modules() if isinstance(m, ClassAwareSelectiveLoss)]
    if len(found) != 1:
        raise ValueError(
            'a label prior needs exactly one ClassAwareSelectiveLoss in the model, '
            f'found {len(found)}'
        )
    if not found[0].mode.startswith('ignore'):
        raise ValueError(
            f"a label prior needs a loss with mode='ignore', got {found[0].mode!r}: "
            'any other mode trains the un-annotated classes to be unlikely'
        )
    return found[0]


@HOOKS.register_module()
class LabelPriorHook(Hook):
    """Write the mean probability of each class over an epoch's foreground RoIs.

    Needs one `ClassAwareSelectiveLoss` in the model, with mode 'ignore' or
    'ignore_normalized': any other mode has already pushed the un-annotated down.  The
    sums start anew each epoch, so the file holds the prior by the latest weights.

    Args:
        out_file: file to write; relative to the run's work_dir.
    """

    def __init__(self, out_file: str = 'label_prior.json') -> None:
        self.out_file = out_file

    def before_train(self, runner) -> None:
        """Find the loss and let it keep sums."""
        selective_loss(runner.model).track_prior = True

    def before_train_epoch(self, runner) -> None:
        """Start the sums anew."""
        loss = selective_loss(runner.model)
        loss.prior_sum.zero_()
        loss.prior_rows.zero_()

    def after_train_epoch(self, runner) -> None:
        """Add up the ranks, write the file, say what it will ignore."""
        loss = selective_loss(runner.model)
        sums = torch.cat([loss.prior_sum, loss.prior_rows.reshape(1)])
        all_reduce(sums)
        num_rows = int(sums[-1])
        if num_rows == 0:
            runner.logger.warning('no foreground RoI in this epoch: no label prior')
            return
        prior = LabelPrior(
            runner.train_dataloader.dataset.metainfo['classes'],
            (sums[:-1].double() / num_rows).clamp(0, 1).cpu().numpy(),
            num_rows,
        )
        if is_main_process():
            prior.save(Path(runner.work_dir) / self.out_file)
        runner.logger.info(prior.summary())
