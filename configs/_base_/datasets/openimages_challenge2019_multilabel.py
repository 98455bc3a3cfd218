# Open Images Challenge 2019 (500 classes), official files as downloaded; the settings
# of `openimages_v7_multilabel.py` otherwise.
_base_ = './openimages_v7_multilabel.py'
num_classes = 500

challenge_files = dict(
    label_file='annotations/challenge-2019-classes-description-500.csv',
    hierarchy_file='annotations/challenge-2019-label500-hierarchy.json')
train_dataloader = dict(
    dataset=dict(
        ann_file='annotations/challenge-2019-train-detection-bbox.csv',
        image_level_ann_file='annotations/challenge-2019-train-detection-human-imagelabels.csv',  # noqa: E501
        **challenge_files))
val_dataloader = dict(
    dataset=dict(
        ann_file='annotations/challenge-2019-validation-detection-bbox.csv',
        image_level_ann_file='annotations/challenge-2019-validation-detection-human-imagelabels.csv',  # noqa: E501
        **challenge_files))
test_dataloader = val_dataloader

val_evaluator = dict(protocol='challenge')
test_evaluator = val_evaluator
