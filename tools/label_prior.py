"""Estimate the label prior of a trained ignore-mode model over its training set."""

import sys
from collections.abc import Sequence

from mmdet_imbalance.cli import (
    add_config_arguments,
    command_line,
    load_config,
    tool_parser,
)
from mmdet_imbalance.cli.errors import ToolError
from mmdet_imbalance.cli.runs import (
    add_run_arguments,
    build_runner,
    choose_device,
    prepare,
)


@command_line
def main(argv: Sequence[str]) -> None:
    """Run the tool with the arguments `argv`."""
    parser = tool_parser(
        'Mean probability of each class over the foreground RoIs of the training set, '
        'for `prior=FILE` of ClassAwareSelectiveLoss.',
        'python tools/label_prior.py CONFIG CHECKPOINT --out label_prior.json',
    )
    add_config_arguments(parser)
    parser.add_argument('checkpoint', help='checkpoint of a run in ignore mode')
    parser.add_argument('--out', default='label_prior.json', metavar='FILE')
    add_run_arguments(parser)
    args = parser.parse_args(argv)
    if args.launcher != 'none':
        raise ToolError('one pass in one process: leave out --launcher')
    choose_device(args.device)
    cfg = load_config(args)
    prepare(cfg, args)

    import torch
    from rich.progress import track

    from mmdet_imbalance.cli.config import checked_file
    from mmdet_imbalance.core.label_prior import LabelPrior
    from mmdet_imbalance.engine.hooks.label_prior_hook import selective_loss

    cfg.load_from = checked_file(args.checkpoint, 'checkpoint')
    runner = build_runner(cfg)
    loss = selective_loss(runner.model)
    runner.load_or_resume()
    dataloader = runner.build_dataloader(cfg.train_dataloader)
    # Running statistics of normalisation layers stay as they are; the loss alone has
    # to believe that it trains, or it would keep no sums.
    runner.model.eval()
    loss.train()
    loss.track_prior = True
    with torch.no_grad():
        for batch in track(dataloader, description='training set'):
            data = runner.model.data_preprocessor(batch, True)
            runner.model(**data, mode='loss')
    num_rows = int(loss.prior_rows)
    if num_rows == 0:
        raise ToolError('no foreground RoI in the whole training set')
    prior = LabelPrior(
        dataloader.dataset.metainfo['classes'],
        (loss.prior_sum.double() / num_rows).clamp(0, 1).cpu().numpy(),
        num_rows,
    )
    prior.save(args.out)
    print(prior.summary())
    print(f'written: {args.out}')


if __name__ == '__main__':
    sys.exit(main())
