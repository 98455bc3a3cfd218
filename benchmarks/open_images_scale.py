"""Open Images at full size: time and memory of loading, against the host on a cut.

Makes annotation files of the official form with random content, then measures each
load in a process of its own. Example:

    python benchmarks/open_images_scale.py --out oid_scale            # full size
    python benchmarks/open_images_scale.py --out oid_scale --images 20000 --boxes 170000
"""

import argparse
import csv
import json
import pickle
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv as arrow_csv

NUM_CLASSES = 601
HEADER = (
    'ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,'
    'IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside'
)
IMAGES_AT_ONCE = 100_000
FRACTION_CONCURRENT = 0.05
FRACTION_GROUP_OF = 0.05


def mids() -> list[str]:
    return [f'/m/{k:05x}' for k in range(NUM_CLASSES)]


def generate(folder: Path, num_images: int, num_boxes: int, seed: int = 0) -> None:
    """Write box and image-level CSV, class list, hierarchy and sizes of images."""
    folder.mkdir(parents=True, exist_ok=True)
    names = mids()
    rows = [(mid, f'class {k}') for k, mid in enumerate(names)]
    with open(folder / 'classes.csv', 'w', newline='') as file:
        csv.writer(file).writerows(rows)
    # Each class k > 0 stands under class k // 5: five levels, as in the real tree.
    nodes = [{'LabelName': mid, 'Subcategory': []} for mid in names]
    for k in range(1, NUM_CLASSES):
        nodes[k // 5]['Subcategory'].append(nodes[k])
    tree = {'LabelName': 'root', 'Subcategory': [nodes[0]]}
    nodes[0]['Subcategory'] = [n for n in nodes[0]['Subcategory'] if n is not nodes[0]]
    (folder / 'hierarchy.json').write_text(json.dumps(tree))
    rng = np.random.default_rng(seed)
    classes = 1 / np.arange(1, NUM_CLASSES + 1)
    classes = np.cumsum(classes / classes.sum())
    mean = num_boxes / num_images
    with (
        open(folder / 'boxes.csv', 'wb') as boxes_file,
        open(folder / 'labels.csv', 'wb') as labels_file,
    ):
        boxes_file.write(HEADER.encode() + b'\n')
        labels_file.write(b'ImageID,Source,LabelName,Confidence\n')
        for start in range(0, num_images, IMAGES_AT_ONCE):
            num = min(IMAGES_AT_ONCE, num_images - start)
            ids = pa.array([f'{k:016x}' for k in range(start, start + num)])
            size = rng.geometric(1 / mean, num)
            box_table, label_table = _tables(rng, ids, size, classes, names)
            for file, table in ((boxes_file, box_table), (labels_file, label_table)):
                options = arrow_csv.WriteOptions(
                    include_header=False, quoting_style='none'
                )
                arrow_csv.write_csv(table, file, options)


def _tables(rng, ids, size, classes, names) -> tuple[pa.Table, pa.Table]:
    image = np.repeat(np.arange(len(size)), size)
    num = len(image)
    label = np.searchsorted(classes, rng.random(num)).clip(max=NUM_CLASSES - 1)
    low = rng.random((num, 2)) * 0.8
    high = low + 0.02 + rng.random((num, 2)) * (0.98 - low)
    box = np.concatenate([low, high], axis=1)
    # Some rows repeat the box before them with another label.
    again = np.flatnonzero(rng.random(num) < FRACTION_CONCURRENT)
    again = again[(again > 0) & (image[again] == image[again - 1])]
    box[again] = box[again - 1]
    box = np.round(box.clip(0, 1), 6)
    flag = [np.where(rng.random(num) < p, 1, 0).astype(np.int8) for p in (0.6, 0.2)]
    group = (rng.random(num) < FRACTION_GROUP_OF).astype(np.int8)
    none = np.zeros(num, dtype=np.int8)
    texts = pa.array(names)
    box_table = pa.table(
        {
            'ImageID': ids.take(pa.array(image)),
            'Source': pa.repeat('xclick', num),
            'LabelName': texts.take(pa.array(label)),
            'Confidence': np.ones(num, dtype=np.int8),
            'XMin': box[:, 0],
            'XMax': box[:, 2],
            'YMin': box[:, 1],
            'YMax': box[:, 3],
            'IsOccluded': flag[0],
            'IsTruncated': flag[1],
            'IsGroupOf': group,
            'IsDepiction': none,
            'IsInside': none,
        }
    )
    facts = np.repeat(np.arange(len(size)), 5)
    fact_label = np.searchsorted(classes, rng.random(len(facts)))
    label_table = pa.table(
        {
            'ImageID': ids.take(pa.array(facts)),
            'Source': pa.repeat('verification', len(facts)),
            'LabelName': texts.take(pa.array(fact_label.clip(max=NUM_CLASSES - 1))),
            'Confidence': rng.integers(0, 2, len(facts)).astype(np.int8),
        }
    )
    return box_table, label_table


def cut(source: Path, folder: Path, num_boxes: int) -> None:
    """The first rows of the generated files, and the pickle that the host asks for."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = {}
    with open(source / 'boxes.csv') as file, open(folder / 'boxes.csv', 'w') as out:
        for k, line in enumerate(file):
            if k > num_boxes:
                break
            out.write(line)
            if k:
                ids[line[:16]] = None
    for name in ('classes.csv', 'hierarchy.json'):
        (folder / name).write_bytes((source / name).read_bytes())
    metas = [dict(filename=f'{i}.jpg', ori_shape=(768, 1024, 3)) for i in ids]
    (folder / 'metas.pkl').write_bytes(pickle.dumps(metas))
    with open(folder / 'labels.csv', 'w') as out:
        out.write('ImageID,Source,LabelName,Confidence\n')


# --- measuring, in a process of its own ---------------------------------------------
def memory_mb() -> dict[str, float]:
    found = {}
    with open('/proc/self/smaps_rollup') as file:
        for line in file:
            parts = line.split()
            if parts[-1] == 'kB':
                found[parts[0].rstrip(':')] = float(parts[1]) / 1024
    return {
        'private': found['Private_Dirty'] + found['Private_Clean'],
        'peak': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def load_ours(folder: Path) -> dict:
    from mmdet_imbalance.datasets.class_stats import class_stats_of
    from mmdet_imbalance.datasets.open_images import OpenImagesMultiLabelDataset

    before = memory_mb()
    start, cpu = time.perf_counter(), time.process_time()
    dataset = OpenImagesMultiLabelDataset(
        str(folder / 'boxes.csv'),
        str(folder / 'classes.csv'),
        str(folder / 'hierarchy.json'),
        str(folder / 'labels.csv'),
        cache_dir=folder / 'cache',
        filter_cfg=dict(filter_empty_gt=True),
    )
    loaded = time.perf_counter() - start
    cpu = time.process_time() - cpu
    peak = memory_mb()['peak']
    rng = np.random.default_rng(0)
    chosen = rng.integers(0, len(dataset), 20_000).tolist()
    # Processor time: what a record costs, also on a machine that is shared.
    start = time.process_time()
    for index in chosen:
        dataset.get_data_info(index)
    record = (time.process_time() - start) / len(chosen)
    private = memory_mb()['private'] - before['private']
    start = time.process_time()
    class_stats_of(dataset, use_cache=False)
    counted = time.process_time() - start
    return {
        'images': len(dataset),
        'objects': dataset.report['objects'],
        'label_sets': dataset.report['label_sets'],
        'load_s': loaded,
        'load_cpu_s': cpu,
        'peak_mb': peak - before['peak'],
        'peak_with_imports_mb': peak,
        'private_mb': private,
        'record_cpu_us': record * 1e6,
        'stats_cpu_s': counted,
    }


def load_host(folder: Path) -> dict:
    from mmdet.datasets import OpenImagesDataset

    before = memory_mb()
    start, cpu = time.perf_counter(), time.process_time()
    dataset = OpenImagesDataset(
        ann_file=str(folder / 'boxes.csv'),
        label_file=str(folder / 'classes.csv'),
        hierarchy_file=str(folder / 'hierarchy.json'),
        meta_file=str(folder / 'metas.pkl'),
        data_prefix=dict(img=''),
    )
    loaded = time.perf_counter() - start
    cpu = time.process_time() - cpu
    after = memory_mb()
    return {
        'images': len(dataset),
        'load_s': loaded,
        'load_cpu_s': cpu,
        'peak_mb': after['peak'] - before['peak'],
        'private_mb': after['private'] - before['private'],
    }


def measure(what: str, folder: Path) -> dict:
    command = [sys.executable, __file__, '--measure', what, '--out', str(folder)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(text.strip().splitlines()[-1])


def show(title: str, values: dict) -> None:
    shown = ', '.join(
        f'{k} {v:.1f}' if isinstance(v, float) else f'{k} {v}'
        for k, v in values.items()
    )
    print(f'{title}: {shown}', flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', type=Path, required=True, help='folder for the files')
    parser.add_argument('--images', type=int, default=1_743_042)
    parser.add_argument('--boxes', type=int, default=14_610_229)
    parser.add_argument('--cut', type=int, default=1_000_000, help='boxes of the cut')
    parser.add_argument('--measure', choices=['ours', 'host'], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        loader = load_ours if args.measure == 'ours' else load_host
        print(json.dumps(loader(args.out)))
        return
    if not (args.out / 'boxes.csv').exists():
        start = time.perf_counter()
        generate(args.out, args.images, args.boxes)
        print(f'generated in {time.perf_counter() - start:.0f} s', flush=True)
    for store in (args.out / 'cache').glob('*'):
        store.unlink()
    show('first load', measure('ours', args.out))
    show('cached load', measure('ours', args.out))
    folder = args.out / 'cut'
    cut(args.out, folder, args.cut)
    for store in (folder / 'cache').glob('*'):
        store.unlink()
    ours, host = measure('ours', folder), measure('host', folder)
    show(f'cut of {args.cut} boxes, ours', ours)
    show(f'cut of {args.cut} boxes, host', host)
    print(
        f'host / ours: time {host["load_s"] / ours["load_s"]:.1f}, '
        f'processor time {host["load_cpu_s"] / ours["load_cpu_s"]:.1f}, '
        f'peak memory {host["peak_mb"] / max(ours["peak_mb"], 1):.1f}, '
        f'kept memory {host["private_mb"] / max(ours["private_mb"], 1):.1f}'
    )


if __name__ == '__main__':
    main()
