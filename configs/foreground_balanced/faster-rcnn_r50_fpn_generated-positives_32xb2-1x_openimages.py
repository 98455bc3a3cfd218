_base_ = 'mmdet::openimages/faster-rcnn_r50_fpn_32xb2-1x_openimages.py'
# All positives of an image (512 * 0.25) are made around its ground truth, balanced over
# classes and over five intervals of IoU.
model = dict(
    roi_head=dict(
        type='mmdet_imbalance.GeneratedPositivesRoIHead', num_generated=128),
    train_cfg=dict(
        rcnn=dict(
            sampler=dict(
                _delete_=True,
                type='mmdet_imbalance.PlainRoISampler',
                num=512,
                pos_fraction=0.25,
                add_gt_as_proposals=False))))
