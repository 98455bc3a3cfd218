"""Distances of a box head's prototypes and the clusters of RoIs around them."""

import sys
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
from mmdet_imbalance.cli.runs import choose_device, load_checkpoint


@command_line
def main(argv: Sequence[str]) -> None:
    """Run the tool with the arguments `argv`."""
    parser = tool_parser(
        'Pictures and figures of the embedding of a trained two-stage detector: '
        'distances of prototypes (of a stock head: the rows of its classifier), '
        'clusters of the annotated boxes. Says whether prototypes are evenly spaced '
        'and clusters of one size, as AffinityLoss wants them.',
        'python tools/plot_prototypes.py CONFIG CHECKPOINT --out prototypes',
    )
    add_config_arguments(parser)
    parser.add_argument('checkpoint', help='checkpoint of a two-stage detector')
    parser.add_argument('--out', required=True, metavar='DIR', help='folder to write')
    parser.add_argument('--device', choices=['auto', 'cpu', 'cuda'], default='auto')
    parser.add_argument(
        '--class-stats',
        metavar='FILE',
        help='of the training set: is a cluster larger where a class is rare?',
    )
    parser.add_argument(
        '--background-per-image',
        type=int,
        default=3,
        metavar='N',
        help='best proposals that overlap no object',
    )
    args = parser.parse_args(argv)
    if args.background_per_image < 0:
        raise ToolError('--background-per-image must not be negative')
    choose_device(args.device)
    cfg = load_config(args)

    from mmengine.registry import DATASETS, MODELS, init_default_scope

    init_default_scope(cfg.get('default_scope', 'mmdet'))
    state = load_checkpoint(checked_file(args.checkpoint, 'checkpoint'))['state_dict']
    report = make_report(
        DATASETS.build(cfg.val_dataloader.dataset),
        loaded(MODELS.build(cfg.model), state, args.device),
        args.class_stats,
        args.background_per_image,
    )

    from mmdet_imbalance.visualization import prototype_plots as plots

    folder = Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'clusters.md').write_text(report.table() + '\n', encoding='utf-8')
    for name, draw in (
        ('distance_matrix', plots.distance_matrix),
        ('distance_histogram', plots.distance_histogram),
        ('cluster_projection', plots.cluster_projection),
    ):
        draw(report).savefig(folder / f'{name}.png', dpi=150)
    print(report.table())
    print(f'written: {folder}')


def loaded(model, state: dict, device: str):
    """Model in evaluation mode, with the weights of a checkpoint."""
    import torch

    from mmdet_imbalance.cli.runs import has_gpu

    wrong = [
        name
        for name, value in model.state_dict().items()
        if '.loss_' not in name
        and (name not in state or state[name].shape != value.shape)
    ]
    if wrong:
        raise ToolError(
            f'the checkpoint is not of this config: {len(wrong)} weights are absent or '
            f'of another shape, the first is {wrong[0]}'
        )
    model.load_state_dict(state, strict=False)
    use_gpu = device != 'cpu' and has_gpu()
    return model.to(torch.device('cuda' if use_gpu else 'cpu')).eval()


def make_report(dataset, model, class_stats: str | None, background_per_image: int):
    """Embed the annotated boxes of a dataset."""
    from mmdet_imbalance.core.class_stats import ClassStats
    from mmdet_imbalance.engine.roi_embeddings import (
        classifier_of,
        prototypes_of,
        roi_embeddings,
    )
    from mmdet_imbalance.evaluation.prototypes import PrototypeReport

    classifier_of(model)
    names = dataset.metainfo['classes']
    prototypes, owners = prototypes_of(model, len(names))
    counts = None
    if class_stats is not None:
        stats = ClassStats.load(class_stats)
        stats.check_classes(names)
        counts = stats.instance_count
    embeddings, labels = roi_embeddings(model, dataset, background_per_image)
    return PrototypeReport(names, prototypes, owners, embeddings, labels, counts)


if __name__ == '__main__':
    sys.exit(main())
