"""Ports for the servers of tests: free, one process's own, none that a connection is given."""

import socket
import subprocess
import sys
from pathlib import Path

from port_kit import HOST, free_ports

RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
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
    """The range from which Linux gives a connection its port (ip(7), ip_local_port_range)."""
    own = free_ports(100)
    first = int(RANGE.read_text().split()[0])
    assert max(own) < first
