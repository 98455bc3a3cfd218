"""Figures and pictures of the demo: two variants, some seeds, one balanced test set.

Shapes: C classes; boxes are x, y, width, height in pixels, as in COCO's files.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mmdet_imbalance.core.atomic_write import atomic_path

#: Key of the metric, heading of the column.
COLUMNS = {
    'coco/AP': 'mAP',
    'coco/AP50': 'AP50',
    'coco/APf': 'frequent',
    'coco/APc': 'common',
    'coco/APr': 'rare',
    'tree/AP': 'tree mAP',
}
#: Enlargement of the little images, so that text can be read.
ZOOM = 4


def table(figures: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Variants below each other, then the difference of the last to the first.

    Args:
        figures: for each variant one mapping a seed, values in [0, 1], with 'minutes'.

    Returns:
        Text. With several seeds: mean and standard deviation over them; the
        difference is taken seed by seed.
    """
    names = list(figures)
    rows = [['AP in %', *COLUMNS.values(), 'minutes']]
    for name in names:
        columns = [100 * _column(figures[name], key) for key in COLUMNS]
        minutes = _column(figures[name], 'minutes')
        rows.append([name, *(_spread(c) for c in columns), f'{minutes.mean():.1f}'])
    first, last = figures[names[0]], figures[names[-1]]
    gains = [100 * (_column(last, k) - _column(first, k)) for k in COLUMNS]
    rows.append(['difference', *(_spread(gain, '+') for gain in gains), ''])
    if len(first) > 1:
        better = [f'{int((gain > 0).sum())} of {len(gain)}' for gain in gains]
        rows.append(['seeds it rises on', *better, ''])
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return '\n'.join(
        row[0].ljust(widths[0])
        + ''.join(f'  {c.rjust(w)}' for c, w in zip(row[1:], widths[1:], strict=True))
        for row in rows
    )


def group_sizes(annotation: Mapping) -> str:
    """How many classes of the test set are rare, common and frequent in training."""
    annotated = {row['category_id'] for row in annotation['annotations']}
    sizes = defaultdict(list)
    for category in annotation['categories']:
        if category['id'] in annotated:
            sizes[category.get('frequency', '')].append(category['image_count'])
    names = {'f': 'frequent', 'c': 'common', 'r': 'rare', '': 'never seen'}
    return ', '.join(
        f'{len(sizes[key])} {name} (on {min(sizes[key])} to {max(sizes[key])} images)'
        for key, name in names.items()
        if sizes[key]
    )


def read_annotation(prefix: Path) -> dict:
    """Ground truth that the metric wrote at `prefix`."""
    return json.loads(Path(f'{prefix}.gt.json').read_text())


def plot_ap_by_frequency(
    path: Path,
    figures: Mapping[str, Sequence[Mapping[str, float]]],
    annotations: Sequence[Mapping],
) -> None:
    """AP of each class over its training images, and the mean in steps of count.

    Args:
        path: PNG to write.
        figures: as for `table`, with `coco/AP_<class>`.
        annotations: ground truth of each seed, with the training counts.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for number, (name, seeds) in enumerate(figures.items()):
        counts, values = [], []
        for one, annotation in zip(seeds, annotations, strict=True):
            for category in annotation['categories']:
                value = one.get(f'coco/AP_{category["name"]}', -1.0)
                # A class that was never seen has no place on a logarithmic axis.
                if value >= 0 and category['image_count'] > 0:
                    counts.append(category['image_count'])
                    values.append(100 * value)
        counts, values = np.array(counts, dtype=float), np.array(values)
        colour = f'C{number}'
        axes.scatter(counts, values, s=9, alpha=0.35, color=colour, linewidths=0)
        # Two steps for each doubling of the count.
        step = np.floor(2 * np.log2(counts))
        middle = [np.exp(np.log(counts[step == s]).mean()) for s in np.unique(step)]
        mean = [values[step == s].mean() for s in np.unique(step)]
        axes.plot(middle, mean, color=colour, linewidth=2, label=name)
    axes.set_xscale('log')
    axes.set_xlabel('training images that bear the class')
    axes.set_ylabel('AP on the balanced test set (%)')
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130)


def plot_tree(path: Path, title: str, figures: Mapping, dataset_meta: Mapping) -> None:
    """AP at each node of the class tree."""
    from mmdet_imbalance.visualization import hierarchy_figure

    names = dataset_meta['classes']
    values = [figures.get(f'tree/AP_{name}', -1.0) for name in names]
    drawn = hierarchy_figure(names, dataset_meta['ancestor_matrix'], values, title)
    with atomic_path(path) as temporary:
        drawn.savefig(temporary, dpi=90)


def draw_detections(
    folder: Path,
    prefixes: Mapping[str, Path],
    images: Mapping[int, np.ndarray],
    dataset_meta: Mapping,
    num_images: int,
    score_thr: float = 0.2,
) -> list[Path]:
    """Pictures of the images with the most rare classes: truth and every variant.

    Args:
        folder: where to write.
        prefixes: results of each variant.
        images: gives (H, W, 3) uint8 BGR for an index of the test set.
        dataset_meta: classes, palette and ancestors.
        num_images: how many pictures.
        score_thr: lowest score that is drawn.

    Returns:
        The files.
    """
    import cv2

    annotation = read_annotation(next(iter(prefixes.values())))
    truth = _by_image(annotation['annotations'])
    detected = {
        name: _by_image(json.loads(Path(f'{prefix}.bbox.json').read_text()))
        for name, prefix in prefixes.items()
    }
    count = {c['id']: c['image_count'] for c in annotation['categories']}

    def rarity(image_id: int) -> float:
        return sum(1.0 / (1 + count[row['category_id']]) for row in truth[image_id])

    files = []
    for image_id in sorted(truth, key=rarity, reverse=True)[:num_images]:
        index = [image['id'] for image in annotation['images']].index(image_id)
        panels = [('annotated', truth[image_id], None)]
        panels += [(n, rows[image_id], score_thr) for n, rows in detected.items()]
        drawn = [_panel(images[index], dataset_meta, *panel) for panel in panels]
        path = folder / f'detections-{index:04d}.png'
        with atomic_path(path) as temporary:
            cv2.imwrite(str(temporary), np.hstack(drawn)[..., ::-1])
        files.append(path)
    return files


def _panel(image, dataset_meta, title, rows, score_thr) -> np.ndarray:
    """One enlarged picture with its boxes and a title, RGB."""
    import cv2
    from mmengine.structures import InstanceData
    from torch import tensor

    from mmdet_imbalance.visualization import LabelSetVisualizer

    if score_thr is not None:
        rows = [row for row in rows if row['score'] >= score_thr]
    large = cv2.resize(
        image[..., ::-1], None, fx=ZOOM, fy=ZOOM, interpolation=cv2.INTER_CUBIC
    )
    boxes = np.array([row['bbox'] for row in rows], dtype=np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    instances = InstanceData(
        bboxes=tensor(boxes * ZOOM),
        labels=tensor([row['category_id'] - 1 for row in rows]).long(),
    )
    if score_thr is not None:
        instances.scores = tensor([row['score'] for row in rows]).float()
    visualizer = LabelSetVisualizer(
        'demo', same_object_iou=0.6, line_width=2, font_size=7, max_labels=5
    )
    visualizer.dataset_meta = dict(dataset_meta)
    drawn = visualizer.draw_instances(large, instances)
    band = np.full((28, drawn.shape[1], 3), 255, dtype=np.uint8)
    cv2.putText(band, title, (6, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 0, 0), 1)
    return np.vstack([band, drawn])


def _by_image(rows: Sequence[Mapping]) -> dict[int, list[Mapping]]:
    found = defaultdict(list)
    for row in rows:
        found[row['image_id']].append(row)
    return found


def _column(seeds: Sequence[Mapping[str, float]], key: str) -> np.ndarray:
    # -1 is the metric's average over nothing.
    values = np.array([one.get(key, -1.0) for one in seeds], dtype=np.float64)
    return np.where(values < 0, np.nan, values)


def _spread(values: np.ndarray, sign: str = '') -> str:
    if not np.isfinite(values).all():
        return '-'
    text = f'{values.mean():{sign}.1f}'
    return text if len(values) == 1 else f'{text} ± {values.std(ddof=1):.1f}'
