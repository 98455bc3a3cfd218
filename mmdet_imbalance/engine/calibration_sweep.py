"""Evaluates many calibrations of a detector in one pass over the images.

What comes before the classification logits does not depend on the calibration and is by
far the most work. So the detector runs once an image, and only what follows its head is
repeated for every trial. Detectors whose head cannot be read so (cascades, heads with
other outputs) run once for each trial. Results of all trials are in memory together.

Shapes: T trials. Deviations: none (figures are those of a run for each trial).
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from mmdet.models import AnchorHead, BBoxHead, StandardRoIHead
from mmengine.evaluator import Evaluator
from mmengine.runner import Runner
from torch import Tensor, nn

from mmdet_imbalance.engine.hooks.calibration_hook import CalibrationHook

#: A method and its strength.
Trial = tuple[str, float]


class HeadReplay:
    """Keeps what the head of a detector gave, and predicts from it again.

    Args:
        model: detector.
    """

    def __init__(self, model: nn.Module) -> None:
        roi_head = getattr(model, 'roi_head', None)
        self._roi_head = roi_head
        self.head = model.bbox_head if roi_head is None else roi_head.bbox_head
        self._handles = [self.head.register_forward_hook(self._keep_outputs)]
        if roi_head is not None:
            extractor = roi_head.bbox_roi_extractor
            self._handles.append(extractor.register_forward_pre_hook(self._keep_rois))
        self._outputs: Any = None
        self._rois: Tensor | None = None

    @staticmethod
    def fits(model: nn.Module) -> bool:
        """Whether a detector has a head of a kind that can be read."""
        roi_head = getattr(model, 'roi_head', None)
        if roi_head is not None:
            return (
                isinstance(roi_head, StandardRoIHead)
                and isinstance(roi_head.bbox_head, BBoxHead)
                and not roi_head.with_mask
            )
        return isinstance(getattr(model, 'bbox_head', None), AnchorHead)

    def detach(self) -> None:
        """Stop to listen."""
        for handle in self._handles:
            handle.remove()

    def _keep_outputs(self, head: nn.Module, args: tuple, outputs: Any) -> None:
        self._outputs = outputs

    def _keep_rois(self, extractor: nn.Module, args: tuple) -> None:
        self._rois = args[1]

    def predict(
        self, samples: Sequence, calibrated: Callable[[Tensor], Tensor]
    ) -> list:
        """Data samples with what the head says of other logits.

        Args:
            samples: those that the detector gave for the images of the kept outputs.
            calibrated: from the logits of the classification layer to those wanted.
        """
        metas = [sample.metainfo for sample in samples]
        if self._roi_head is None:
            logits, *rest = self._outputs
            results = self.head.predict_by_feat(
                [calibrated(level) for level in logits],
                *rest,
                batch_img_metas=metas,
                rescale=True,
            )
        else:
            logits, boxes = self._outputs
            rows = [
                torch.nonzero(self._rois[:, 0] == i).squeeze(1)
                for i in range(len(samples))
            ]
            logits = calibrated(logits)
            results = self.head.predict_by_feat(
                rois=tuple(self._rois[some] for some in rows),
                cls_scores=tuple(logits[some] for some in rows),
                bbox_preds=tuple(boxes[some] for some in rows),
                batch_img_metas=metas,
                rcnn_test_cfg=self._roi_head.test_cfg,
                rescale=True,
            )
        found = []
        for sample, instances in zip(samples, results, strict=True):
            other = copy.copy(sample)
            other.pred_instances = instances
            found.append(other)
        return found


def sweep(
    runner: Runner,
    loop: Any,
    hook: CalibrationHook,
    trials: Sequence[Trial],
    make_evaluator: Callable[[Sequence], Evaluator],
) -> Iterator[tuple[Trial, dict, Evaluator]]:
    """Evaluate every trial.

    Args:
        runner: with the checkpoint loaded.
        loop: its validation loop.
        hook: registered with the runner; its method and strength are changed.
        trials: methods and strengths; strength 0 is the detector as it is.
        make_evaluator: evaluator of some metrics.

    Yields:
        A trial, its figures and the evaluator that gave them.
    """
    metrics = loop.evaluator.metrics
    meta = loop.evaluator.dataset_meta
    if not HeadReplay.fits(runner.model):
        loop.evaluator = make_evaluator(metrics)
        loop.evaluator.dataset_meta = meta
        for trial in trials:
            hook.method, hook.strength = trial
            yield trial, loop.run(), loop.evaluator
        return
    hook.strength = 0.0
    if any(method == 'fractal' for method, _ in trials):
        # Only a hook that is to calibrate so looks up the places of objects.
        hook.method = 'fractal'
    # The calls of the host's loop, which its timers and loggers wait for.
    runner.call_hook('before_val')
    runner.call_hook('before_val_epoch')
    replay = HeadReplay(runner.model)
    # After `before_val`, which hands class statistics to the metrics.
    evaluators = [make_evaluator(copy.deepcopy(metrics)) for _ in trials]
    for evaluator in evaluators:
        evaluator.dataset_meta = meta
    runner.model.eval()
    with torch.no_grad():
        for index, batch in enumerate(loop.dataloader):
            runner.call_hook('before_val_iter', batch_idx=index, data_batch=batch)
            samples = runner.model.val_step(batch)
            for trial, evaluator in zip(trials, evaluators, strict=True):
                found = samples
                if trial[1]:
                    hook.method, hook.strength = trial
                    found = replay.predict(samples, hook.calibrated(replay.head))
                    hook.strength = 0.0
                evaluator.process(data_samples=found, data_batch=batch)
            runner.call_hook(
                'after_val_iter', batch_idx=index, data_batch=batch, outputs=samples
            )
    replay.detach()
    runner.call_hook('after_val')
    for trial in trials:
        evaluator = evaluators.pop(0)
        yield trial, evaluator.evaluate(len(loop.dataloader.dataset)), evaluator
