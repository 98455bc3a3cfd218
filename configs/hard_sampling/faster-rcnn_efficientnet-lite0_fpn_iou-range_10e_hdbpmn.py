_base_ = '../hdbpmn/faster-rcnn_efficientnet-lite0_fpn_10e_hdbpmn.py'
# Bounds of Fast R-CNN, section 2.3.
model = dict(
    train_cfg=dict(
        rcnn=dict(
            sampler=dict(
                _delete_=True,
                type='mmdet_imbalance.IoURangeNegSampler',
                num=128,
                pos_fraction=0.25,
                iou_range=(0.1, 0.5)))))
