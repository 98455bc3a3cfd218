"""Start one process a GPU on this machine; `tools/dist_*.sh` call it.

`torchrun` does the work; this adds a free port where none is named, one line when the
named one is taken, and leaves out torchrun's own traceback after a process has said
what is wrong.
"""

import logging
import os
import socket
import sys
from collections.abc import Sequence

from mmdet_imbalance.cli.errors import ToolError, command_line

USAGE = 'usage: python -m mmdet_imbalance.cli.launch NUM_PROCESSES TOOL [ARGUMENTS…]'


def number(variable: str, default: int, least: int) -> int:
    """Whole number of an environment variable, at least `least`."""
    text = os.environ.get(variable, str(default))
    if not text.isdigit() or int(text) < least:
        raise ToolError(
            f'{variable} must be a whole number from {least} on, got {text!r}'
        )
    return int(text)


def check_port(port: int) -> None:
    """Raise ToolError when something listens on the port already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(('', port))
        except OSError as error:
            raise ToolError(
                f'port {port} cannot be used ({error.strerror}); choose another one, '
                f'PORT={port + 1}, or leave PORT out on a single machine'
            ) from error


def launcher_options(num_processes: int) -> list[str]:
    """Options of torchrun, from the variables that MMDetection's scripts read."""
    num_nodes, node_rank = number('NNODES', 1, 1), number('NODE_RANK', 0, 0)
    if node_rank >= num_nodes:
        raise ToolError(f'NODE_RANK must be below NNODES={num_nodes}, got {node_rank}')
    options = [f'--nproc-per-node={num_processes}']
    if num_nodes == 1 and 'PORT' not in os.environ:
        return ['--standalone', *options]
    port = number('PORT', 29500, 1)
    if node_rank == 0:
        check_port(port)
    address = os.environ.get('MASTER_ADDR', '127.0.0.1')
    if num_nodes > 1 and 'MASTER_ADDR' not in os.environ:
        raise ToolError(
            f'NNODES={num_nodes} needs MASTER_ADDR, the address of the node of rank 0'
        )
    return [
        *options,
        f'--nnodes={num_nodes}',
        f'--node-rank={node_rank}',
        f'--master-addr={address}',
        f'--master-port={port}',
    ]


@command_line
def main(argv: Sequence[str]) -> None:
    """Run a tool in several processes."""
    if len(argv) < 2 or argv[0] in ('-h', '--help'):
        raise ToolError(USAGE)
    count, tool, *arguments = argv
    if not count.isdigit() or int(count) < 1:
        raise ToolError(f'the number of processes must be at least 1, got {count!r}')
    options = launcher_options(int(count))
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    # The agent reports a process that ended with an error; its own words are enough.
    agent = logging.getLogger('torch.distributed.elastic.multiprocessing.api')
    agent.setLevel(logging.CRITICAL)
    try:
        torchrun([*options, tool, *arguments, '--launcher', 'pytorch'])
    except SignalException as error:
        # The agent has handed the signal on and waited half a minute.
        raise ToolError(
            f'stopped by {error.sigval.name}; a training that could save a checkpoint '
            'in time says so above, and --resume goes on from there'
        ) from error
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        raise ToolError(
            f'process {rank} ended with exit code {failure.exitcode}; what it said '
            'stands above'
        ) from error


if __name__ == '__main__':
    sys.exit(main())
