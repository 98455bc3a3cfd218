_base_ = 'mmdet::openimages/faster-rcnn_r50_fpn_32xb2-1x_openimages.py'
# A baseline of the paper.
num_classes = 601
model = dict(
    roi_head=dict(
        bbox_head=dict(
            # Ancestors share the box of their object, and are rarely annotated.
            reg_class_agnostic=True,
            loss_cls=dict(
                _delete_=True,
                type='mmdet_imbalance.DistributedSoftmaxLoss',
                num_classes=num_classes))))
custom_hooks = [dict(type='mmdet_imbalance.ClassStatsHook')]
