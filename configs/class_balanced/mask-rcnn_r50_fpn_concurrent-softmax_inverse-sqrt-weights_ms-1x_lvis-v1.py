_base_ = 'mmdet::lvis/mask-rcnn_r50_fpn_sample1e-3_ms-1x_lvis-v1.py'
num_classes = 1203
model = dict(
    roi_head=dict(
        bbox_head=dict(
            loss_cls=dict(
                _delete_=True,
                type='mmdet_imbalance.ConcurrentSoftmaxLoss',
                # Any rule of class weights, on any loss of the package.
                class_weight=dict(type='inverse_sqrt', count='image'),
                num_classes=num_classes))))
custom_hooks = [dict(type='mmdet_imbalance.ClassStatsHook')]
