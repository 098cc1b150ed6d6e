"""Write a small MMDB file: networks with a country each (maxmind.github.io/MaxMind-DB)."""

import ipaddress
from pathlib import Path
from typing import Any

_MARK = b"\xab\xcd\xefMaxMind.com"
_BITS = 24  # of a record


def _encoded(value: Any) -> bytes:
    if isinstance(value, str):
        data = value.encode()
        return bytes([2 << 5 | len(data)]) + data
    if isinstance(value, dict):
        pairs = b"".join(_encoded(part) for pair in value.items() for part in pair)
        return bytes([7 << 5 | len(value)]) + pairs
    if isinstance(value, list):
        return bytes([len(value), 4]) + b"".join(map(_encoded, value))
    bits, number = value
    data = number.to_bytes((number.bit_length() + 7) // 8, "big")
    kind = {16: bytes([5 << 5 | len(data)]), 32: bytes([6 << 5 | len(data)])}
    return kind.get(bits, bytes([len(data), 2])) + data


def write(path: Path, networks: dict[str, Any]) -> None:
    """networks: CIDR → record, a tree for IPv6 with IPv4 below ::/96."""
    data, offsets = b"", {}
    for network, record in networks.items():
        offsets[network] = len(data)
        data += _encoded(record)
    nodes: list[list[Any]] = [[None, None]]
    for text in networks:
        network = ipaddress.ip_network(text)
        shift, size = (96, 32) if network.version == 4 else (0, 128)
        bits = f"{int(network.network_address):0{size}b}"
        way = "0" * shift + bits[: network.prefixlen]
        here = 0
        for bit in way[:-1]:
            if nodes[here][int(bit)] is None:
                nodes.append([None, None])
                nodes[here][int(bit)] = len(nodes) - 1
            here = nodes[here][int(bit)]
        nodes[here][int(way[-1])] = text
    count = len(nodes)
    tree = b""
    for node in nodes:
        for one in node:
            target = count if one is None else one
            number = count + 16 + offsets[target] if isinstance(target, str) else target
            tree += number.to_bytes(_BITS // 8, "big")
    about = {
        "node_count": (32, count),
        "record_size": (16, _BITS),
        "ip_version": (16, 6),
        "database_type": "Test-Country",
        "languages": ["en"],
        "binary_format_major_version": (16, 2),
        "binary_format_minor_version": (16, 0),
        "build_epoch": (64, 1_800_000_000),
        "description": {"en": "a test"},
    }
    path.write_bytes(tree + bytes(16) + data + _MARK + _encoded(about))
