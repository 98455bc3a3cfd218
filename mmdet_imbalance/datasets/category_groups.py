"""Frequency groups that an LVIS-style annotation states about its categories."""

import json
import mmap
from collections.abc import Sequence
from pathlib import Path

GROUPS = ('r', 'c', 'f')
#: Longest text after the key "categories" that is looked at, bytes.
MOST_BYTES = 64 << 20


def annotated_groups(
    ann_file: str | Path, class_names: Sequence[str]
) -> list[str] | None:
    """Field `frequency` of the categories of an annotation file.

    The file may be gigabytes; only its list of categories is parsed.

    Args:
        ann_file: a JSON file in the COCO or LVIS form, or anything else.
        class_names: names of the C classes.

    Returns:
        'r', 'c' or 'f' for each class, or None where the file does not state it for
        every one of them.
    """
    path = Path(ann_file)
    if path.suffix != '.json' or not path.is_file() or path.stat().st_size == 0:
        return None
    groups = {}
    for category in _categories(path):
        groups[category.get('name')] = category.get('frequency')
    found = [groups.get(name) for name in class_names]
    return found if found and all(group in GROUPS for group in found) else None


def _categories(path: Path) -> list[dict]:
    """The list behind the last key "categories" that holds named categories."""
    decoder = json.JSONDecoder()
    with (
        open(path, 'rb') as file,
        mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as m,
    ):
        at = len(m)
        while (at := m.rfind(b'"categories"', 0, at)) >= 0:
            text = m[at + len(b'"categories"') : at + MOST_BYTES]
            text = text.decode('utf-8', errors='ignore').lstrip()
            if not text.startswith(':'):
                continue
            try:
                value, _ = decoder.raw_decode(text[1:].lstrip())
            except json.JSONDecodeError:
                continue
            if isinstance(value, list) and all(
                isinstance(item, dict) and 'name' in item for item in value
            ):
                return value
    return []
