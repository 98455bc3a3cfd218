_base_ = 'mmdet::openimages/faster-rcnn_r50_fpn_32xb2-1x_openimages.py'
# Bounds of Fast R-CNN, section 2.3.
model = dict(
    train_cfg=dict(
        rcnn=dict(
            sampler=dict(
                _delete_=True,
                type='mmdet_imbalance.IoURangeNegSampler',
                num=512,
                pos_fraction=0.25,
                iou_range=(0.1, 0.5)))))
