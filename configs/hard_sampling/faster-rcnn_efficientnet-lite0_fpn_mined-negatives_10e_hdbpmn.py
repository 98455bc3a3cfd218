_base_ = '../hdbpmn/faster-rcnn_efficientnet-lite0_fpn_10e_hdbpmn.py'
# Written by tools/mine_hard_negatives.py from a first round; see the README.
hard_negatives = 'data/hdbpmn/hard_negatives.json'
load, annotate, resize, flip, pack = _base_.train_pipeline
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            load,
            dict(
                type='mmdet_imbalance.LoadHardNegatives',
                ann_file=hard_negatives),
            annotate,
            dict(type='ProposalBroadcaster', transforms=[resize, flip]), pack
        ]))
model = dict(
    roi_head=dict(type='mmdet_imbalance.MinedNegativesRoIHead'),
    train_cfg=dict(
        rcnn=dict(
            sampler=dict(
                _delete_=True,
                type='mmdet_imbalance.MinedNegativeSampler',
                num=128,
                pos_fraction=0.25))))
