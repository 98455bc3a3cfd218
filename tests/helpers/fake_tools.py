"""Stand-ins for train.py and retrain_head.py that answer in a blink.

They take the same words, leave the same files, and write `fake_ap` of the config plus a
part for the seed as figures. `fake_mode` makes them misbehave.
"""

import json
import stat
from pathlib import Path

CONFIG = """
fake_ap = {ap}
fake_mode = 'good'
data_root = 'data/'
train_cfg = dict(max_epochs=2)
"""

COMMON = """
import argparse, json, os, signal, sys, time
from pathlib import Path
parser = argparse.ArgumentParser()
for name in NAMES:
    parser.add_argument(name)
parser.add_argument('--work-dir', type=Path)
parser.add_argument('--seed', type=int)
for name in ('--device', '--data-root', '--results', '--name', '--epochs'):
    parser.add_argument(name)
parser.add_argument('--resume', action='store_true')
parser.add_argument('--cfg-options', nargs='+', default=[])
args = parser.parse_args()
text = Path(args.config).read_text()
values = {}
exec(text, {'dict': dict}, values)
for option in args.cfg_options:
    key, value = option.split('=', 1)
    values[key] = value
mode, ap = values['fake_mode'], float(values['fake_ap'])
figures = {
    'coco/AP': ap + 0.01 * args.seed ** 2,
    'coco/APr': ap / 2,
    'coco/APf': -1.0,
}
with open(Path(__file__).parent / 'calls.txt', 'a') as file:
    print(json.dumps(sys.argv), file=file)
if mode == 'fail':
    print('a first line')
    print('error: this row cannot be trained', file=sys.stderr)
    sys.exit(2)
"""

TRAIN = """
folder = args.work_dir / f'2026010{len(list(args.work_dir.glob("*/vis_data"))) + 1}'
(folder / 'vis_data').mkdir(parents=True)
done = (args.work_dir / 'last_checkpoint').is_file()
begin = 1 if done and args.resume else 0
print('eta: 0:00:07', flush=True)
for epoch in range(begin, 2):
    if epoch == 1 and mode == 'kill' and not done:
        os.kill(os.getpid(), signal.SIGKILL)
    if epoch == 1 and mode == 'wait' and not done:
        time.sleep(60)
    path = args.work_dir / f'epoch_{epoch + 1}.pth'
    path.write_text(f'{args.config} {args.seed} {epoch}')
    (args.work_dir / 'last_checkpoint').write_text(str(path))
    with open(folder / 'vis_data' / 'scalars.json', 'a') as file:
        print(json.dumps({'loss': 1.0, 'step': epoch + 1}), file=file)
        if epoch == 0 or mode != 'unevaluated':
            row = dict(figures, step=epoch + 1)
            if epoch == 0:
                row['coco/AP'] = 0.9
            print(json.dumps(row), file=file)
"""

TEST = """
folder = args.work_dir / '20260105'
folder.mkdir(parents=True)
(folder / '20260105.json').write_text(json.dumps(figures))
"""

RETRAIN = """
assert Path(args.checkpoint).is_file()
with open(args.results, 'a') as file:
    print(json.dumps({'metrics': figures}), file=file)
(args.work_dir / 'prior.json').write_text('{}')
"""


def write_tools(folder: Path) -> Path:
    """Write the stand-ins; `calls.txt` beside them will hold their command lines."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, names, body in (
        ('train', ['config'], TRAIN),
        ('test', ['config', 'checkpoint'], TEST.replace('SEED', '0')),
        ('retrain_head', ['config', 'checkpoint'], RETRAIN),
    ):
        common = COMMON.replace('NAMES', repr(names))
        if name == 'test':
            common = common.replace('args.seed', '0')
        (folder / f'{name}.py').write_text(common + body)
    return folder


def write_config(folder: Path, name: str, ap: float = 0.3) -> Path:
    """A config that the stand-ins read."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f'{name}.py'
    path.write_text(CONFIG.format(ap=ap))
    return path


def calls(folder: Path) -> list[list[str]]:
    """Command lines of the stand-ins so far."""
    path = folder / 'calls.txt'
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_sbatch(folder: Path) -> Path:
    """A stand-in for SLURM's `sbatch`; prints a number and notes its words."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / 'sbatch'
    path.write_text(
        f'#!/bin/bash\nprintf "%s\\n" "$@" >> {folder}/sbatch.txt\necho 7\n'
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path
