from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from torch import nn

from mmdet_imbalance.core.label_prior import LabelPrior
from mmdet_imbalance.engine.hooks.label_prior_hook import LabelPriorHook
from mmdet_imbalance.models.losses.class_aware_selective import ClassAwareSelectiveLoss

CLASSES = ('cat', 'dog', 'bird')


def runner_of(model, work_dir):
    return SimpleNamespace(
        model=model,
        work_dir=str(work_dir),
        logger=MMLogger.get_instance('test_label_prior_hook'),
        train_dataloader=SimpleNamespace(
            dataset=SimpleNamespace(metainfo={'classes': CLASSES})
        ),
    )


def test_the_file_holds_the_mean_of_the_latest_epoch(tmp_path):
    loss = ClassAwareSelectiveLoss(3, mode='ignore')
    runner = runner_of(nn.Sequential(nn.Linear(2, 2), loss), tmp_path)
    hook = LabelPriorHook()
    hook.before_train(runner)
    for epoch in range(2):
        hook.before_train_epoch(runner)
        seen = []
        for step in range(4):
            logits = torch.randn(
                6, 3, generator=torch.Generator().manual_seed(10 * epoch + step)
            )
            loss(logits, torch.tensor([0, 1, 3, 3, 2, 3]))
            seen.append(logits[[0, 1, 4]].sigmoid())
        hook.after_train_epoch(runner)
    prior = LabelPrior.load(tmp_path / 'label_prior.json')
    assert prior.class_names == CLASSES
    assert prior.num_rows == 12
    np.testing.assert_allclose(prior.prior, torch.cat(seen).mean(0), atol=1e-6)


def test_other_modes_and_models_without_the_loss_are_refused(tmp_path):
    loss = ClassAwareSelectiveLoss(3, mode='selective')
    with pytest.raises(ValueError, match="mode='ignore'"):
        LabelPriorHook().before_train(runner_of(nn.Sequential(loss), tmp_path))
    with pytest.raises(ValueError, match='found 0'):
        LabelPriorHook().before_train(runner_of(nn.Linear(2, 2), tmp_path))


def test_an_epoch_without_objects_writes_nothing(tmp_path):
    loss = ClassAwareSelectiveLoss(3, mode='ignore')
    runner = runner_of(nn.Sequential(loss), tmp_path)
    hook = LabelPriorHook()
    hook.before_train(runner)
    hook.before_train_epoch(runner)
    loss(torch.randn(4, 3), torch.full((4,), 3))
    hook.after_train_epoch(runner)
    assert not (tmp_path / 'label_prior.json').exists()
