"""What the command-line tools share: options, config loading, errors of one line.

Light on purpose: neither torch nor the host is imported before a tool needs it, so
`--help` and a misspelt path answer at once.
"""

from mmdet_imbalance.cli.config import (
    add_config_arguments,
    checked_file,
    load_config,
    override_data_root,
)
from mmdet_imbalance.cli.errors import ToolError, command_line, tool_parser

__all__ = [
    'ToolError',
    'add_config_arguments',
    'checked_file',
    'command_line',
    'load_config',
    'override_data_root',
    'tool_parser',
]
