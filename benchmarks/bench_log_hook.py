"""CPU time of logging by frequency group, as a part of a training iteration.

    python benchmarks/bench_log_hook.py
    python benchmarks/bench_log_hook.py CONFIG --data-root DIR

trains some iterations and prints the CPU time spent in `FreqGroupLogHook` over that of
all iterations: unlike a run with and a run without, it is not lost in noise. The first
iterations are not counted.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from mmengine.hooks import Hook

from mmdet_imbalance.cli.config import load_config
from mmdet_imbalance.cli.runs import build_runner
from mmdet_imbalance.engine.hooks import FreqGroupLogHook

DEMO = 'configs/demo/faster-rcnn_tiny_12e_glyphs.py'
UNCOUNTED = 3


class TimedLogHook(FreqGroupLogHook):
    """The hook with a clock round what it does in an iteration."""

    seconds = 0.0

    def _timed(self, function, *args, **kwargs):
        start = time.process_time()
        try:
            return function(*args, **kwargs)
        finally:
            self.seconds += time.process_time() - start

    def before_train_iter(self, *args, **kwargs):
        self._timed(super().before_train_iter, *args, **kwargs)

    def after_train_iter(self, *args, **kwargs):
        self._timed(super().after_train_iter, *args, **kwargs)

    def _on_loss(self, *args):
        self._timed(super()._on_loss, *args)


class Clock(Hook):
    """CPU seconds of the iterations after the first few."""

    # Before and after everything else.
    priority = 'VERY_LOW'

    def __init__(self, log_hook):
        self.log_hook = log_hook
        self.start = None

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == UNCOUNTED:
            self.start = time.process_time()
            self.log_hook.seconds = 0.0
        self.total = time.process_time() - (self.start or 0.0)
        self.logged = self.log_hook.seconds


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', nargs='?', default=DEMO)
    parser.add_argument('--data-root')
    parser.add_argument('--iterations', type=int, default=40)
    parser.add_argument('--measure-every', type=int, default=10)
    args = parser.parse_args(argv)
    args.cfg_options = []
    cfg = load_config(args)
    with tempfile.TemporaryDirectory() as folder:
        cfg.work_dir = folder
        cfg.train_cfg = dict(
            type='IterBasedTrainLoop',
            max_iters=UNCOUNTED + args.iterations,
            val_interval=10**9,
        )
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
        cfg.param_scheduler = []
        cfg.log_level = 'ERROR'
        cfg.default_hooks.logger = dict(type='LoggerHook', interval=10**9)
        cfg.default_hooks.checkpoint = None
        runner = build_runner(cfg)
        hook = TimedLogHook(
            interval=10, measure_every=args.measure_every, draw_histogram=False
        )
        clock = Clock(hook)
        runner.register_hook(hook)
        runner.register_hook(clock)
        runner.train()
    print(
        json.dumps(
            {
                'config': Path(args.config).stem,
                'iterations': args.iterations,
                'cpu_ms_an_iteration': round(1e3 * clock.total / args.iterations, 2),
                'logging_cpu_ms': round(1e3 * clock.logged / args.iterations, 3),
                'percent': round(100 * clock.logged / clock.total, 3),
            }
        )
    )


if __name__ == '__main__':
    sys.exit(main())
