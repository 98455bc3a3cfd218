"""Boxes as distributions: decoding, targets and the two inner coders."""

import pytest
import torch
from mmengine.registry import init_default_scope

from mmdet_imbalance.registry import TASK_UTILS

init_default_scope('mmdet')
TYPE = 'mmdet_imbalance.DistributionBBoxCoder'
DISTANCE = dict(type='mmdet_imbalance.PriorDistanceBBoxCoder')


def boxes(num, seed):
    generator = torch.Generator().manual_seed(seed)
    corner = 50 * torch.rand(num, 2, generator=generator)
    size = 10 + 20 * torch.rand(num, 2, generator=generator)
    return torch.cat([corner, corner + size], dim=1)


def near(priors, seed):
    generator = torch.Generator().manual_seed(seed)
    return priors + 2 * torch.rand(len(priors), 4, generator=generator) - 1


def logits_of(targets, reg_max):
    """Logits whose two highest probabilities give the targets as expectation."""
    left = targets.floor().long()
    share = targets - left
    probs = torch.full((*targets.shape, reg_max + 1), 0.0)
    probs.scatter_(-1, left.unsqueeze(-1), (1 - share).unsqueeze(-1))
    probs.scatter_add_(-1, left.unsqueeze(-1) + 1, share.unsqueeze(-1))
    return (probs + 1e-12).log().flatten(1)


@pytest.mark.parametrize('inner', [None, DISTANCE])
@pytest.mark.parametrize('reg_max', [4, 16])
def test_a_distribution_on_the_target_decodes_to_the_ground_truth(inner, reg_max):
    coder = TASK_UTILS.build(dict(type=TYPE, coder=inner, reg_max=reg_max))
    priors = boxes(9, seed=0)
    gts = near(priors, seed=1)
    encoded = logits_of(coder.targets(priors, gts), reg_max)
    assert encoded.shape == (9, coder.encode_size)
    torch.testing.assert_close(coder.decode(priors, encoded), gts, atol=1e-3, rtol=1e-4)


def test_equal_logits_of_deltas_are_the_prior():
    coder = TASK_UTILS.build(dict(type=TYPE))
    priors = boxes(5, seed=2)
    torch.testing.assert_close(
        coder.decode(priors, torch.zeros(5, coder.encode_size)), priors
    )


def test_boxes_of_several_classes_are_decoded_one_by_one():
    coder = TASK_UTILS.build(dict(type=TYPE, reg_max=3))
    priors = boxes(4, seed=3)
    encoded = torch.randn(4, 2 * coder.encode_size)
    both = coder.decode(priors, encoded, max_shape=(40, 45))
    assert both.shape == (4, 8)
    one, two = encoded.chunk(2, dim=1)
    for k, part in enumerate((one, two)):
        torch.testing.assert_close(
            both[:, 4 * k : 4 * k + 4], coder.decode(priors, part, max_shape=(40, 45))
        )
    assert both[:, 0::2].max() <= 45
    assert both[:, 1::2].max() <= 40
    assert both.min() >= 0


def test_targets_beyond_the_range_are_clamped_as_in_the_paper():
    coder = TASK_UTILS.build(dict(type=TYPE, value_range=(-0.1, 0.1)))
    priors = torch.tensor([[0.0, 0, 10, 10]])
    targets = coder.targets(priors, torch.tensor([[20.0, -20, 40, -10]]))
    torch.testing.assert_close(targets[0, :2], torch.tensor([15.9, 0.0]))


def test_range_is_in_units_of_the_inner_coder():
    inner = dict(type='DeltaXYWHBBoxCoder', target_stds=(0.1, 0.1, 0.2, 0.2))
    coder = TASK_UTILS.build(dict(type=TYPE, coder=inner))
    assert coder.low == [-10, -10, -5, -5]
    assert coder.high == [10, 10, 5, 5]


def test_distances_are_undone_by_decoding():
    coder = TASK_UTILS.build(DISTANCE)
    priors = boxes(6, seed=4)
    gts = near(priors, seed=5)
    encoded = coder.encode(priors, gts)
    torch.testing.assert_close(coder.decode(priors, encoded), gts)
    torch.testing.assert_close(
        coder.encode(priors, priors), torch.full((6, 4), 0.5), atol=1e-5, rtol=0
    )


def test_gradients_reach_the_logits():
    coder = TASK_UTILS.build(dict(type=TYPE))
    logits = torch.zeros(3, coder.encode_size, requires_grad=True)
    coder.decode(boxes(3, seed=6), logits).sum().backward()
    assert (logits.grad.abs().sum(dim=1) > 0).all()


def test_what_cannot_be_is_named():
    with pytest.raises(ValueError, match='reg_decoded_bbox=True'):
        TASK_UTILS.build(dict(type=TYPE)).encode(boxes(1, 0), boxes(1, 0))
    for wrong in ((1, -1), (0, 1, 2), ((0, 1), (0, 1))):
        with pytest.raises(ValueError, match='`value_range`'):
            TASK_UTILS.build(dict(type=TYPE, value_range=wrong))
    with pytest.raises(ValueError, match='`reg_max`'):
        TASK_UTILS.build(dict(type=TYPE, reg_max=0))
    inner = dict(type='TBLRBBoxCoder')
    with pytest.raises(ValueError, match='`value_range` is needed'):
        TASK_UTILS.build(dict(type=TYPE, coder=inner))
