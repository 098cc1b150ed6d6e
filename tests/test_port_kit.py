"""Ports for the servers of tests: free, one process's own, none that a connection is given."""

import socket
import subprocess
import sys
from pathlib import Path

from port_kit import HOST, free_ports

MORE = "from port_kit import free_ports; print(*free_ports(100))"


def test_ports_are_given_once_and_not_while_one_listens() -> None:
    first = free_ports(60)
    with socket.socket() as taken:
        (port,) = free_ports(1)
        taken.bind((HOST, port))
        later = [port for _ in range(3) for port in free_ports(60)]
        assert len(set(first)) == 60 and port not in later


def test_another_process_gets_others() -> None:
    own = free_ports(100)
    again = subprocess.run(
        [sys.executable, "-c", MORE],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert not set(own) & set(map(int, again.stdout.split()))


def test_a_connection_is_given_no_such_port() -> None:
    own = free_ports(100)
    with socket.socket() as server:
        server.bind((HOST, 0))
        assert server.getsockname()[1] > max(own) + 1000
