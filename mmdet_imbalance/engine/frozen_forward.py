"""Runs everything of a detector that comes before its last head, once an image.

Shapes: P proposals of an image (none where the detector has a dense head only).
Deviations: norm layers are in evaluation mode, an image is a batch of its own.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS
from torch import Tensor, nn

from mmdet_imbalance.core.feature_cache import cache_key, ensure_cache, image_files
from mmdet_imbalance.engine.head_retraining import has_flips, image_steps, set_flips
from mmdet_imbalance.engine.head_weights import FROZEN_PREFIXES, check_frozen


class FrozenForward:
    """Frozen part of a detector, and where its results are cached.

    Args:
        cfg: config of the detector.
        state: weights of the checkpoint.
        root: folder in which each cache is a folder.
    """

    def __init__(self, cfg: Config, state: dict[str, Tensor], root: Path) -> None:
        self.cfg, self.root = cfg, root
        self.state = {k: v for k, v in state.items() if k.startswith(FROZEN_PREFIXES)}
        self._model: nn.Module | None = None

    @property
    def model(self) -> nn.Module:
        """The detector, built when first needed."""
        if self._model is None:
            model = MODELS.build(self.cfg.model)
            check_frozen(model, self.state)
            model.load_state_dict(self.state, strict=False)
            self._model = model.eval()
        return self._model

    def cache(self, dataset: dict, training: bool, flips: bool) -> Path:
        """Folder of the features of a dataset; they are made if absent.

        Args:
            dataset: config.
            training: proposals as in training, not as in a test.
            flips: mirrored images too, where the pipeline mirrors any.
        """
        flips = flips and has_flips(dataset)
        plain = DATASETS.build(set_flips(dataset, 0.0))
        paths = [plain.get_data_info(i)['img_path'] for i in range(len(plain))]
        proposal_cfg = self._proposal_cfg(training)
        model = self.cfg.model
        key = cache_key(
            self.state,
            [model.get(k) for k in ('backbone', 'neck', 'rpn_head')],
            [model.get('data_preprocessor'), proposal_cfg, flips],
            image_steps(dataset),
            image_files(paths),
        )
        folder = self.root / key

        def rows() -> Iterator[dict]:
            mirrored = [DATASETS.build(set_flips(dataset, 1.0))] if flips else []
            return self._rows([plain, *mirrored], proposal_cfg)

        ensure_cache(folder, rows, len(plain) * (1 + flips))
        return folder

    def _proposal_cfg(self, training: bool) -> dict | None:
        model = self.cfg.model
        if 'rpn_head' not in model:
            return None
        test = model.test_cfg.rpn
        return model.train_cfg.get('rpn_proposal', test) if training else test

    @torch.no_grad()
    def _rows(self, datasets: list, proposal_cfg: dict | None) -> Iterator[dict]:
        for dataset in datasets:
            seen = set()
            for index in range(len(dataset)):
                item = dataset[index]
                sample = item['data_samples']
                if sample.img_path in seen:
                    continue
                seen.add(sample.img_path)
                levels, proposals = self.forward(item, proposal_cfg)
                yield dict(
                    path=sample.img_path,
                    mirrored=bool(sample.metainfo.get('flip', False)),
                    ori_shape=sample.ori_shape[:2],
                    img_shape=sample.img_shape[:2],
                    levels=levels,
                    proposals=proposals,
                )

    @torch.no_grad()
    def forward(
        self, item: dict, proposal_cfg: dict | None
    ) -> tuple[list[Tensor], Tensor]:
        """Feature levels and proposals (P, 5) of one item of a dataset."""
        batch = dict(inputs=[item['inputs']], data_samples=[item['data_samples']])
        batch = self.model.data_preprocessor(batch, False)
        features = self.model.extract_feat(batch['inputs'])
        levels = [level[0].cpu() for level in features]
        if proposal_cfg is None:
            return levels, torch.zeros(0, 5)
        head = self.model.rpn_head
        metas = [sample.metainfo for sample in batch['data_samples']]
        (found,) = head.predict_by_feat(
            *head(features), batch_img_metas=metas, cfg=proposal_cfg, rescale=False
        )
        boxes = torch.cat([found.bboxes, found.scores[:, None]], dim=1)
        return levels, boxes.cpu()
