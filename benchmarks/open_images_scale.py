"""Open Images at full size: time and memory of loading, against the host on a cut.

Makes annotation files of the official form with random content, then measures each
load in a process of its own, and what a second rank and a worker add to the memory:

    python benchmarks/open_images_scale.py --out oid_scale            # full size
    python benchmarks/open_images_scale.py --out oid_scale --images 20000 --boxes 170000
"""

import argparse
import json
import multiprocessing
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from open_images_files import cut, generate

FULL_IMAGES, FULL_BOXES = 1_743_042, 14_610_229
RECORDS_READ = 20_000
#: At full size, on two cores: (figure, largest value, unit, what it is).
TARGETS = (
    ('first', 'load_s', 60.0, 's', 'first load'),
    ('first', 'peak_mb', 4096.0, 'MB', 'peak memory of the first load'),
    ('cached', 'load_s', 2.0, 's', 'cached load'),
    ('cached', 'record_cpu_us', 100.0, 'us', 'one record'),
    ('shared', 'second_rank_mb', 100.0, 'MB', 'added memory of a second rank'),
    ('shared', 'worker_mb', 100.0, 'MB', 'added memory of a worker'),
    ('cached', 'stats_cpu_s', 10.0, 's', 'class statistics'),
)


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


def open_ours(folder: Path):
    from mmdet_imbalance.datasets.open_images import OpenImagesMultiLabelDataset

    return OpenImagesMultiLabelDataset(
        str(folder / 'boxes.csv'),
        str(folder / 'classes.csv'),
        str(folder / 'hierarchy.json'),
        str(folder / 'labels.csv'),
        cache_dir=folder / 'cache',
        filter_cfg=dict(filter_empty_gt=True),
    )


def read_records(dataset, seed: int = 0) -> float:
    """Processor seconds of a record, over many in random order."""
    chosen = np.random.default_rng(seed).integers(0, len(dataset), RECORDS_READ)
    # Processor time: what a record costs, also on a machine that is shared.
    start = time.process_time()
    for index in chosen.tolist():
        dataset.get_data_info(index)
    return (time.process_time() - start) / len(chosen)


def load_ours(folder: Path) -> dict:
    from mmdet_imbalance.datasets import open_images  # noqa: F401
    from mmdet_imbalance.datasets.class_stats import class_stats_of

    before = memory_mb()
    start, cpu = time.perf_counter(), time.process_time()
    dataset = open_ours(folder)
    loaded = time.perf_counter() - start
    cpu = time.process_time() - cpu
    peak = memory_mb()['peak']
    record = read_records(dataset)
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


def load_shared(folder: Path) -> dict:
    """What a second rank and a worker add while a first rank holds the columns."""
    dataset = open_ours(folder)
    read_records(dataset)
    # Every page is in use by this process: what the others map of them is shared.
    for name in ('image_ptr', 'boxes', 'labels', 'flags'):
        getattr(dataset._store, name).sum()
    second = measure('ours', folder)
    receiver, sender = multiprocessing.get_context('fork').Pipe(duplex=False)
    worker = multiprocessing.get_context('fork').Process(
        target=_read_as_worker, args=(dataset, sender)
    )
    worker.start()
    added = receiver.recv()
    worker.join()
    return {
        'second_rank_mb': second['private_mb'],
        'second_rank_load_s': second['load_s'],
        'second_rank_load_cpu_s': second['load_cpu_s'],
        'worker_mb': added,
        'columns_mb': Path(dataset._store.path).stat().st_size / 2**20,
    }


def _read_as_worker(dataset, sender) -> None:
    # A forked process begins with nothing of its own; what it writes to becomes so,
    # reference counts of shared objects included.
    before = memory_mb()['private']
    read_records(dataset, seed=1)
    sender.send(memory_mb()['private'] - before)


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


def judge(figures: dict[str, dict], full: bool) -> None:
    """Say of each target whether it is kept."""
    if not full:
        print('the targets are those of the full size, this is less')
    for load, key, limit, unit, what in TARGETS:
        found = figures[load][key]
        verdict = 'PASS' if found < limit else 'over budget'
        cpu = key.replace('load_s', 'load_cpu_s')
        beside = f' ({figures[load][cpu]:.2f} s of processor)' if cpu != key else ''
        print(f'{verdict}: {what} {found:.2f} {unit}{beside}, target {limit:g} {unit}')


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', type=Path, required=True, help='folder for the files')
    parser.add_argument('--images', type=int, default=FULL_IMAGES)
    parser.add_argument('--boxes', type=int, default=FULL_BOXES)
    parser.add_argument('--cut', type=int, default=1_000_000, help='boxes of the cut')
    parser.add_argument(
        '--measure', choices=['ours', 'shared', 'host'], help=argparse.SUPPRESS
    )
    args = parser.parse_args()
    if args.measure:
        loaders = dict(ours=load_ours, shared=load_shared, host=load_host)
        print(json.dumps(loaders[args.measure](args.out)))
        return
    full = args.images >= FULL_IMAGES and args.boxes >= FULL_BOXES
    if not (args.out / 'boxes.csv').exists():
        start = time.perf_counter()
        generate(args.out, args.images, args.boxes)
        print(f'generated in {time.perf_counter() - start:.0f} s', flush=True)
    for store in (args.out / 'cache').glob('*'):
        store.unlink()
    figures = {}
    for name, what in (('first', 'ours'), ('cached', 'ours'), ('shared', 'shared')):
        figures[name] = measure(what, args.out)
        show(f'{name} load', figures[name])
    judge(figures, full)
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
