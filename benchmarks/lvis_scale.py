"""LVIS v1 at full size: time and memory of loading, against the host in one run.

Makes an annotation file of the official form with random content (100,170 images,
1,270,141 annotations with polygons, 1203 categories), then loads it in processes of
their own. Example:

    python benchmarks/lvis_scale.py --out lvis_scale                 # full size, 1 GB
    python benchmarks/lvis_scale.py --out lvis_scale_small --fraction 0.1
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

IMAGES, ANNOTATIONS, CLASSES = 100_170, 1_270_141, 1203
#: Boxes that repeat the box before them with another category.
FRACTION_CONCURRENT = 0.02
#: Polygons are taken from a pool: what a reader has to read is their text.
POOL = 500
#: First load of the whole file, on one core.
BUDGET = dict(load_cpu_s=20.0, peak_mb=4000.0)


def generate(path: Path, fraction: float, seed: int = 0) -> None:
    """Write an annotation file of a fraction of the size of LVIS v1 train."""
    rng = np.random.default_rng(seed)
    num_images = round(IMAGES * fraction)
    num = max(round(ANNOTATIONS * fraction), num_images)
    probs = 1 / np.arange(1, CLASSES + 1) ** 1.1
    label = rng.choice(CLASSES, num, p=probs / probs.sum())
    image = np.sort(rng.integers(0, num_images, num))
    box = np.concatenate(
        [rng.uniform(0, 400, (num, 2)), rng.uniform(2, 200, (num, 2))], axis=1
    )
    again = np.flatnonzero(rng.random(num) < FRACTION_CONCURRENT)
    again = again[(again > 0) & (image[again] == image[again - 1])]
    box[again] = box[again - 1]
    polygons = [
        ','.join(map(str, np.round(rng.uniform(0, 600, 2 * size), 2).tolist()))
        for size in rng.integers(10, 70, POOL)
    ]
    shape = rng.integers(0, POOL, num).tolist()
    pair = np.unique(image.astype(np.int64) * CLASSES + label)
    img_count = np.bincount(pair % CLASSES, minlength=CLASSES).tolist()
    count = np.bincount(label, minlength=CLASSES).tolist()
    with open(path, 'w', encoding='utf-8') as file:
        file.write('{"info":{},"licenses":[],"categories":')
        groups = ['r' if n <= 10 else 'c' if n <= 100 else 'f' for n in img_count]
        categories = [
            dict(
                id=k + 1,
                name=f'class_{k}',
                synset=f'class_{k}.n.01',
                synonyms=[f'class_{k}'],
                frequency=groups[k],
                image_count=img_count[k],
                instance_count=count[k],
                **{'def': 'a class'},
            )
            for k in range(CLASSES)
        ]
        json.dump(categories, file)
        file.write(',"images":[')
        federated = rng.integers(1, CLASSES + 1, (num_images, 12)).tolist()
        for k, ids in enumerate(federated):
            file.write(
                f'{"," if k else ""}{{"id":{k + 1},"height":640,"width":640,'
                f'"license":1,"flickr_url":"","date_captured":"","coco_url":'
                f'"http://images.cocodataset.org/train2017/{k + 1:012d}.jpg",'
                f'"neg_category_ids":{ids[:10]},'
                f'"not_exhaustive_category_ids":{ids[10:]}}}'
            )
        file.write('],"annotations":[')
        rows = zip(
            (image + 1).tolist(),
            (label + 1).tolist(),
            np.round(box, 2).tolist(),
            shape,
            strict=True,
        )
        for k, (i, c, b, s) in enumerate(rows):
            file.write(
                f'{"," if k else ""}{{"id":{k + 1},"image_id":{i},"category_id":{c},'
                f'"bbox":{b},"area":{b[2] * b[3]:.2f},'
                f'"segmentation":[[{polygons[s]}]]}}'
            )
        file.write(']}')


# --- measuring, in a process of its own ---------------------------------------------
def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def load(path: Path, what: str) -> dict:
    kwargs = dict(ann_file=str(path), data_prefix=dict(img=''), pipeline=[])
    if what == 'host':
        # lvis-api 0.5.3 asks for a name that numpy has dropped.
        np.float = float
        from mmdet.datasets import LVISV1Dataset

        names = tuple(f'class_{k}' for k in range(CLASSES))

        def build():
            return LVISV1Dataset(metainfo=dict(classes=names), **kwargs)
    else:
        from mmdet_imbalance.datasets.lvis import LVISMultiLabelDataset

        def build():
            return LVISMultiLabelDataset(load_masks=what == 'masks', **kwargs)

    before = peak_mb()
    start, cpu = time.perf_counter(), time.process_time()
    dataset = build()
    found = {
        'load_s': time.perf_counter() - start,
        'load_cpu_s': time.process_time() - cpu,
        'peak_mb': peak_mb() - before,
        'kept_mb': dataset.data_bytes.nbytes / 2**20,
        'images': len(dataset),
    }
    chosen = np.random.default_rng(0).integers(0, len(dataset), 2000).tolist()
    cpu = time.process_time()
    for index in chosen:
        dataset.get_data_info(index)
    found['record_cpu_us'] = (time.process_time() - cpu) / len(chosen) * 1e6
    if what != 'host':
        from mmdet_imbalance.datasets.class_stats import class_stats_of

        cpu = time.process_time()
        stats = class_stats_of(dataset, use_cache=False)
        found['stats_cpu_s'] = time.process_time() - cpu
        found['labels'] = int(stats.instance_count.sum())
    return found


def measure(path: Path, what: str) -> dict:
    command = [sys.executable, __file__, '--measure', what, '--out', str(path.parent)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = json.loads(text.strip().splitlines()[-1])
    shown = ', '.join(
        f'{k} {v:.1f}' if isinstance(v, float) else f'{k} {v}' for k, v in found.items()
    )
    print(f'{what}: {shown}', flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', type=Path, required=True, help='folder for the file')
    parser.add_argument(
        '--fraction', type=float, default=1.0, help='of the size of LVIS v1 train'
    )
    parser.add_argument(
        '--without-host',
        action='store_true',
        help='the host takes about 10 GB at full size',
    )
    parser.add_argument(
        '--measure', choices=['ours', 'masks', 'host'], help=argparse.SUPPRESS
    )
    args = parser.parse_args()
    path = args.out / 'lvis.json'
    if args.measure:
        print(json.dumps(load(path, args.measure)))
        return
    if not 0 < args.fraction <= 1:
        parser.error(f'--fraction must be in (0, 1], got {args.fraction}')
    args.out.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        start = time.perf_counter()
        generate(path, args.fraction)
        print(f'generated in {time.perf_counter() - start:.0f} s', flush=True)
    print(f'{path}: {path.stat().st_size / 2**20:.0f} MB', flush=True)
    ours = measure(path, 'ours')
    masks = measure(path, 'masks')
    if args.fraction < 1:
        print('the budgets are those of the full size, this is less')
    for key, limit in BUDGET.items():
        verdict = 'PASS' if ours[key] <= limit else 'over budget'
        print(f'{verdict}: {key} {ours[key]:.1f}, budget {limit:g}')
    if args.without_host:
        return
    host = measure(path, 'host')
    for what, found in (('ours', ours), ('ours with masks', masks)):
        print(
            f'host / {what}: '
            + ', '.join(
                f'{key} {host[key] / max(found[key], 1e-9):.1f}'
                for key in ('load_s', 'load_cpu_s', 'peak_mb', 'kept_mb')
            )
        )


if __name__ == '__main__':
    main()
