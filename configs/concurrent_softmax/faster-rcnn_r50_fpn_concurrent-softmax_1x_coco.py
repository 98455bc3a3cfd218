_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'
num_classes = 80
model = dict(
    roi_head=dict(
        bbox_head=dict(
            loss_cls=dict(
                _delete_=True,
                type='mmdet_imbalance.ConcurrentSoftmaxLoss',
                num_classes=num_classes))))
custom_hooks = [dict(type='mmdet_imbalance.ClassStatsHook')]
