import torch
from torch import nn

from mmdet_imbalance.core.partial_labels import PartialTarget
from mmdet_imbalance.models.regions import Regions, partial_target

# animal > fish > shark, toy
ANCESTORS = torch.tensor(
    [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 0, 1]]
).bool()
C = 4


def regions(labels, images, metas, multi_labels=None, ancestors=ANCESTORS):
    labels = torch.tensor(labels)
    pos_inds = (labels < C).nonzero().squeeze(1)
    num, pos = len(labels), len(pos_inds)
    loss = nn.Module()
    loss.ancestors = ancestors
    return Regions(
        cls_score=torch.zeros(num, C),
        bbox_pred=torch.zeros(num, 4),
        labels=labels,
        label_weights=torch.ones(num),
        priors=torch.zeros(num, 4),
        image_ids=torch.tensor(images),
        pos_inds=pos_inds,
        gt_ids=torch.arange(pos),
        pos_gt_boxes=torch.zeros(pos, 4),
        multi_labels=multi_labels,
        img_metas=metas,
        num_classes=C,
        loss_cls=loss,
        loss_bbox=nn.Module(),
        bbox_coder=None,
    )


def test_an_image_without_facts_is_fully_annotated():
    target = partial_target(regions([1, C], [0, 0], [{}]))
    assert target.tolist() == [[1, 1, -1, 0], [0, 0, 0, 0]]
    target = partial_target(regions([1, C], [0, 0], [{}], ancestors=None))
    assert target.tolist() == [[0, 1, 0, 0], [0, 0, 0, 0]]


def test_facts_belong_to_their_image_only():
    metas = [{'verified_neg': [3], 'verified_pos': []}, {'verified_neg': []}]
    target = partial_target(regions([C, C], [0, 1], metas))
    assert target.tolist() == [[-1, -1, -1, 0], [-1, -1, -1, -1]]


def test_a_class_with_a_box_is_searched_for_unless_not_exhaustive():
    metas = [{'verified_neg': []}, {'not_exhaustive': [1]}]
    target = partial_target(regions([1, C, 1, C], [0, 0, 1, 1], metas))
    assert target.tolist() == [
        [1, 1, -1, -1],
        [0, 0, -1, -1],
        [1, 1, -1, -1],
        [-1, -1, -1, -1],
    ]


def test_label_sets_of_the_positives_are_positive():
    sets = torch.tensor([[0, 0, 1, 1]]).bool()
    target = partial_target(regions([C, 2], [0, 0], [{}], sets))
    assert target.tolist() == [[0, 0, 0, 0], [1, 1, 1, 1]]


def test_every_label_of_a_set_was_searched_for():
    sets = torch.tensor([[0, 0, 1, 1]]).bool()
    target = partial_target(regions([C, 2], [0, 0], [{'verified_neg': []}], sets))
    assert target.tolist() == [[0, 0, 0, 0], [1, 1, 1, 1]]


def test_a_loss_may_ask_for_the_image_of_each_row():
    asked = regions([C, 2, C], [0, 1, 1], [{}, {'verified_neg': []}])
    plain = partial_target(asked)
    asked.loss_cls.wants_image_ids = True
    target = partial_target(asked)
    assert isinstance(target, PartialTarget)
    torch.testing.assert_close(target.values, plain)
    assert target.image_ids.tolist() == [0, 1, 1]
    assert target.num_images == 2
