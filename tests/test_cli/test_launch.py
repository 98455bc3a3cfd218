"""Options of torchrun, and the lines for what cannot be started."""

import socket

import pytest

from mmdet_imbalance.cli import ToolError
from mmdet_imbalance.cli.launch import launcher_options, main


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in ('NNODES', 'NODE_RANK', 'PORT', 'MASTER_ADDR'):
        monkeypatch.delenv(name, raising=False)


def test_one_machine_takes_a_free_port():
    assert launcher_options(2) == ['--standalone', '--nproc-per-node=2']


def test_several_machines_read_the_variables_of_the_host(monkeypatch):
    for name, value in {
        'NNODES': '2',
        'NODE_RANK': '1',
        'PORT': '29511',
        'MASTER_ADDR': 'first',
    }.items():
        monkeypatch.setenv(name, value)
    assert launcher_options(4) == [
        '--nproc-per-node=4',
        '--nnodes=2',
        '--node-rank=1',
        '--master-addr=first',
        '--master-port=29511',
    ]


@pytest.mark.parametrize(
    ('variables', 'message'),
    [
        ({'NNODES': '0'}, 'NNODES must be a whole number from 1 on'),
        ({'NNODES': 'two'}, 'NNODES must be a whole number'),
        ({'NODE_RANK': '1'}, 'NODE_RANK must be below NNODES=1'),
        ({'PORT': 'x'}, 'PORT must be a whole number'),
        ({'NNODES': '2', 'NODE_RANK': '1'}, 'needs MASTER_ADDR'),
    ],
)
def test_bad_variables_are_named(variables, message, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ToolError, match=message):
        launcher_options(1)


def test_taken_port_is_named(monkeypatch):
    with socket.socket() as taken:
        taken.bind(('', 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setenv('PORT', str(port))
        with pytest.raises(ToolError, match=f'port {port} cannot be used'):
            launcher_options(1)


@pytest.mark.parametrize('argv', [[], ['2'], ['0', 'tool.py'], ['two', 'tool.py']])
def test_bad_arguments_are_one_line(argv, capsys):
    assert main(argv) == 2
    assert capsys.readouterr().err.startswith('error: ')
