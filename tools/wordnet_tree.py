"""Make a class tree from WordNet, for categories that name a synset (LVIS)."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from mmdet_imbalance.cli import command_line, tool_parser
from mmdet_imbalance.cli.errors import ToolError


@command_line
def main(argv: Sequence[str]) -> None:
    """Run the tool with the arguments `argv`."""
    parser = tool_parser(
        'Class tree from WordNet hypernyms, in the Open Images JSON form.',
        'python tools/wordnet_tree.py lvis_v1_val.json --out hierarchy.json',
    )
    parser.add_argument(
        'categories',
        nargs='+',
        type=Path,
        help='LVIS annotations, or lists of categories, with a "synset" each',
    )
    parser.add_argument('--out', type=Path, required=True, metavar='FILE')
    parser.add_argument(
        '--wordnet',
        type=Path,
        default=Path('/usr/share/wordnet'),
        metavar='DIR',
        help='database files of WordNet 3.0 (default: %(default)s)',
    )
    args = parser.parse_args(argv)

    from mmdet_imbalance.core.atomic_write import write_text_atomically
    from mmdet_imbalance.core.wordnet import WordNet, synset_tree

    synsets = {name for file in args.categories for name in _synsets(file)}
    wordnet = WordNet(args.wordnet)
    tree = synset_tree(wordnet, synsets)
    unknown = sorted(name for name in synsets if wordnet.offset(name) is None)
    write_text_atomically(args.out, json.dumps(tree, separators=(',', ':')) + '\n')
    print(
        f'{len(synsets)} synsets, {len(synsets) - len(tree)} below another one, '
        f'{len(unknown)} not in WordNet{": " + ", ".join(unknown) if unknown else ""}'
    )
    print(f'written: {args.out}')


def _synsets(file: Path) -> list[str]:
    if not file.is_file():
        raise ToolError(f'file not found: {file}')
    try:
        content = json.loads(file.read_text(encoding='utf-8'))
        categories = content['categories'] if isinstance(content, dict) else content
        return [category['synset'] for category in categories]
    except json.JSONDecodeError as error:
        raise ToolError(f'{file}, line {error.lineno}: not valid JSON') from error
    except (KeyError, TypeError) as error:
        raise ToolError(f'{file}: categories need a "synset" each ({error})') from error


if __name__ == '__main__':
    sys.exit(main())
