"""lvis-api as the oracle of LVIS figures, and random federated annotations."""

import json
import logging

import numpy as np
import pytest

from tests.helpers.detection_fixtures import random_coco


def random_lvis(seed, **kwargs):
    """A COCO fixture with federated fields: some classes absent, some incomplete."""
    rng = np.random.default_rng(seed + 1000)
    lvis = random_coco(seed, crowd=0, **kwargs)
    ids = [category['id'] for category in lvis['categories']]
    for image in lvis['images']:
        present = {
            row['category_id']
            for row in lvis['annotations']
            if row['image_id'] == image['id']
        }
        absent = [i for i in ids if i not in present]
        image['neg_category_ids'] = [i for i in absent if rng.random() < 0.4]
        image['not_exhaustive_category_ids'] = [
            i for i in sorted(present) if rng.random() < 0.4
        ]
    for row in lvis['annotations']:
        row['segmentation'] = []
    return lvis


def lvis_figures(lvis, results, tmp_path, max_dets=300, top_per_class=None):
    """Figures under our names, and AP by class name, from lvis-api only."""
    pytest.importorskip('lvis')
    from lvis import LVIS, LVISEval, LVISResults

    # The last release dates from before numpy 1.24.
    if 'float' not in np.__dict__:
        np.float = float
    logging.getLogger('lvis').setLevel(logging.ERROR)
    path = tmp_path / 'oracle.json'
    path.write_text(json.dumps(lvis))
    if top_per_class is not None:
        results = _best_of_each_class(results, top_per_class)
    gt = LVIS(str(path))
    # lvis-api sorts and changes the rows it is given.
    rows = [dict(row) for row in results]
    evaluation = LVISEval(gt, LVISResults(gt, rows, max_dets=max_dets), 'bbox')
    evaluation.run()
    figures = {key: float(v) for key, v in evaluation.results.items() if key[1] == 'P'}
    figures['AR'] = float(evaluation.results['AR@300'])
    precision = evaluation.eval['precision'][..., 0]
    name = {c['id']: c['name'] for c in lvis['categories']}
    per_class = {}
    for k, cat_id in enumerate(evaluation.params.cat_ids):
        values = precision[:, :, k]
        values = values[values > -1]
        per_class[name[cat_id]] = float(values.mean()) if values.size else -1.0
    return figures, per_class


def _best_of_each_class(results, limit):
    kept = []
    for cat_id in sorted({row['category_id'] for row in results}):
        rows = [row for row in results if row['category_id'] == cat_id]
        kept += sorted(rows, key=lambda row: row['score'], reverse=True)[:limit]
    return kept
