_base_ = '../hdbpmn/faster-rcnn_efficientnet-lite0_fpn_10e_hdbpmn.py'
model = dict(
    train_cfg=dict(
        rcnn=dict(
            sampler=dict(
                _delete_=True,
                type='CombinedSampler',
                num=128,
                pos_fraction=0.25,
                add_gt_as_proposals=True,
                pos_sampler=dict(
                    type='mmdet_imbalance.ForegroundBalancedPosSampler',
                    scope='image'),
                neg_sampler=dict(type='mmdet_imbalance.PlainRoISampler')))))
