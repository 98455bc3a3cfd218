"""Re-train the head of a detector on the cached features of a checkpoint."""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from mmdet_imbalance.cli import (
    ToolError,
    add_config_arguments,
    checked_file,
    command_line,
    load_config,
    tool_parser,
)
from mmdet_imbalance.cli.runs import (
    add_run_arguments,
    build_runner,
    choose_device,
    load_checkpoint,
    prepare,
    run,
    set_seed,
)


def parse_args(argv: Sequence[str] | None = None):
    """Options of the command line."""
    parser = tool_parser(
        'Re-train the last head of CONFIG on frozen features: backbone, neck and RPN '
        'come from CHECKPOINT, run once an image, and are cached. The box head of a '
        'Faster R-CNN or the dense head of a single-stage detector with anchors '
        '(RetinaNet, GFL); any loss, sampler or set of classes of CONFIG. The result '
        'is a checkpoint for tools/test.py.',
        'python tools/retrain_head.py CONFIG CHECKPOINT --work-dir DIR --epochs 4\n'
        '  python tools/retrain_head.py CONFIG CHECKPOINT --work-dir DIR --tau 0.7',
    )
    add_config_arguments(parser)
    parser.add_argument(
        'checkpoint', help='checkpoint of a Faster R-CNN, or of a single-stage detector'
    )
    add_run_arguments(parser)
    parser.add_argument(
        '--epochs',
        type=int,
        help="epochs; the config's schedules of learning rate and data sampler are "
        'squeezed into them (default: those of the config)',
    )
    parser.add_argument(
        '--init',
        choices=['head', 'crt', 'fresh'],
        default='head',
        help='from the checkpoint take: all of the head that fits; all but the last '
        'classification layer; nothing',
    )
    parser.add_argument(
        '--classifier-only',
        action='store_true',
        help='train the last classification layer, freeze the rest of the head',
    )
    parser.add_argument(
        '--tau',
        type=float,
        metavar='T',
        help='no training: tau-normalise the classifier of the checkpoint (0: as it '
        'is, 1: equal norms)',
    )
    parser.add_argument(
        '--no-flip',
        action='store_true',
        help='no mirrored images: half the cache, half the time to make it',
    )
    parser.add_argument(
        '--cache-dir',
        metavar='DIR',
        help='folder of the features (default: features/ beside the checkpoint)',
    )
    parser.add_argument(
        '--results', metavar='FILE.jsonl', help='append the figures as one JSON line'
    )
    parser.add_argument('--name', help='name of the row in --results')
    parser.add_argument('--seed', type=int, help='seed of the re-training')
    return parser.parse_args(argv)


@command_line
def main(argv: Sequence[str]) -> None:
    """Re-train, or normalise, and evaluate."""
    args = parse_args(argv)
    if args.launcher != 'none':
        raise ToolError('one head in one process: leave out --launcher')
    if args.epochs is not None and args.epochs < 1:
        raise ToolError(f'--epochs must be at least 1, got {args.epochs}')
    if args.tau is not None and (args.epochs or args.classifier_only):
        raise ToolError('--tau trains nothing: leave out --epochs, --classifier-only')
    choose_device(args.device)
    cfg = load_config(args)
    prepare(cfg, args)
    if args.seed is not None:
        set_seed(cfg, args.seed)

    from mmengine.registry import init_default_scope

    from mmdet_imbalance.engine.frozen_forward import FrozenForward
    from mmdet_imbalance.engine.head_retraining import (
        check_detector,
        retraining_config,
        scale_epochs,
        set_flips,
    )
    from mmdet_imbalance.engine.head_weights import StartFrom

    init_default_scope(cfg.get('default_scope', 'mmdet'))
    if not cfg.get('val_dataloader'):
        raise ToolError(
            f'{cfg.filename} has no `val_dataloader`, which the new head is judged on; '
            'tools/recommend.py writes one with --val'
        )
    check_detector(cfg)
    state = load_checkpoint(checked_file(args.checkpoint, 'checkpoint'))['state_dict']
    if args.no_flip:
        cfg.train_dataloader.dataset = set_flips(cfg.train_dataloader.dataset, 0.0)
    if args.epochs is not None:
        scale_epochs(cfg, args.epochs)

    started = time.process_time()
    root = Path(args.cache_dir or Path(args.checkpoint).parent / 'features')
    frozen = FrozenForward(cfg, state, root)
    val_cache = frozen.cache(cfg.val_dataloader.dataset, False, False)
    if args.tau is None:
        train = cfg.train_dataloader.dataset
        train_cache = frozen.cache(train, True, not args.no_flip)
    else:
        train_cache = val_cache
    cached = time.process_time()
    runner = build_runner(
        retraining_config(cfg, str(train_cache), str(val_cache), args.classifier_only)
    )
    init = 'head' if args.tau is not None else args.init
    start_from = StartFrom(state, init, args.tau)
    runner.register_hook(start_from)
    if args.tau is None:
        run(runner, 'train')
    else:
        run(runner, 'val')
        runner.save_checkpoint(
            cfg.work_dir,
            f'tau_{args.tau:g}.pth',
            save_optimizer=False,
            save_param_scheduler=False,
        )
    row = dict(
        name=args.name or Path(args.config).stem,
        config=args.config,
        options=args.cfg_options,
        checkpoint=Path(args.checkpoint).name,
        init=init,
        classifier_only=args.classifier_only,
        epochs=0 if args.tau is not None else cfg.train_cfg.max_epochs,
        tau=args.tau,
        seed=cfg.get('randomness', {}).get('seed'),
        cache_cpu_s=round(cached - started, 1),
        head_cpu_s=round(time.process_time() - cached, 1),
        metrics=start_from.metrics,
    )
    line = json.dumps(row)
    print(line)
    if args.results is not None:
        with open(args.results, 'a', encoding='utf-8') as file:
            file.write(line + '\n')


if __name__ == '__main__':
    sys.exit(main())
