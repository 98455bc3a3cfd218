"""Files of one JSON value a line, as the host and the tools log their figures."""

import json
from pathlib import Path
from typing import Any


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Lines of a file; one that is being written is left out."""
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def logged_scalars(work_dir: Path) -> list[dict[str, Any]]:
    """What the host logged in a work folder so far, all starts of the run in a row."""
    paths = sorted(work_dir.glob('*/vis_data/scalars.json'))
    return [row for path in paths for row in read_json_lines(path)]
