_base_ = 'mmdet::openimages/faster-rcnn_r50_fpn_32xb2-1x_openimages.py'
# Classes balanced over the batch, as the paper's text has it; its code, and the
# other config, balance each image.
model = dict(
    roi_head=dict(type='mmdet_imbalance.ImbalanceRoIHead'),
    train_cfg=dict(
        rcnn=dict(
            sampler=dict(
                _delete_=True,
                type='CombinedSampler',
                num=512,
                pos_fraction=0.25,
                add_gt_as_proposals=True,
                pos_sampler=dict(
                    type='mmdet_imbalance.ForegroundBalancedPosSampler',
                    scope='batch'),
                neg_sampler=dict(type='mmdet_imbalance.PlainRoISampler')))))
