_base_ = '../aquarium/faster-rcnn_efficientnet-lite0_fpn_10e_aquarium.py'
# All positives of an image (128 * 0.25) are made around its ground truth, balanced over
# classes and over five intervals of IoU.
model = dict(
    roi_head=dict(
        type='mmdet_imbalance.GeneratedPositivesRoIHead', num_generated=32),
    train_cfg=dict(
        rcnn=dict(
            sampler=dict(
                _delete_=True,
                type='mmdet_imbalance.PlainRoISampler',
                num=128,
                pos_fraction=0.25,
                add_gt_as_proposals=False))))
