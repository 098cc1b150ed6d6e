"""A device finds its broker: by the second address of a name, or as the second of a list."""

import os
import subprocess
from pathlib import Path

import pytest
import server_kit
from fleet_kit import Board, World
from link_kit import Driver
from port_kit import free_ports
from server_kit import HOST, context, listening, over_tls
from warden_host.fleet import pki
from warden_host.fleet.servers import Server

# A mount name space of its own, with the hosts file that is named.
_HOSTS = ("unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"')


@pytest.mark.parametrize("name", ["broker.test", "localhost"])
def test_a_name_whose_address_of_ipv6_is_dead(
    name: str, micropython: str, repo: Path, umqtt_path: Path, tmp_path: Path
) -> None:
    """The order is that of a plain Debian's hosts file: ::1 may stand first."""
    hosts = tmp_path / "hosts"
    hosts.write_text(f"::1 {name}\n127.0.0.1 {name}\n")
    prefix = [*_HOSTS, str(hosts)]
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a hosts file of its own")
    authority = pki.new_ca()
    leaf = authority.issue((name,))
    drive = Driver(
        micropython,
        repo / "lib",
        umqtt_path,
        tmp_path,
        [authority.der()],
        [pki.pin(leaf.key), os.urandom(32)],
        prefix,
    )

    def broker(connection: "server_kit.socket.socket") -> None:
        while True:
            server_kit.answer(connection, *server_kit.packet(connection))

    with listening(over_tls(context(tmp_path, [leaf.certificate], leaf.key), broker)) as port:
        assert drive(port, host=name, pump=False, times=4)["codes"] == [""] * 4


def test_the_next_broker_where_one_does_not_answer(tmp_path: Path, umqtt_path: Path) -> None:
    (dead,) = free_ports(1)
    with World(tmp_path) as world:
        listed = (Server(HOST, dead), Server(HOST, world.port))
        home = world.provision(servers=listed)
        with Board(home) as board:
            board.wait_line("log session-stands")
            world.kill_broker()
            board.wait_line("log unreachable")
            world.start_broker()
            board.wait_line("log session-stands")
        lines = [line for line in board.lines.all() if line.startswith("log link-up")]
        assert lines == [f"log link-up {HOST}:{world.port}"] * 2
