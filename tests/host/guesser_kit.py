"""Guess passwords at a broker: `guesser_kit.py HOST PORT CA [NAME]`; a line of JSON in gives one
out. NAME: in the broker's certificate, where it is not HOST.

In: {"from": address, "client": name, "user": name, "password": text, "wait": seconds}. Out: the
code of the CONNACK, or "refused", "silent", "closed".
"""

import json
import socket
import ssl
import sys

_PATIENCE_S = 240.0  # for an answer; this file is run alone, without the other kits


def _text(value: str) -> bytes:
    data = value.encode()
    return len(data).to_bytes(2, "big") + data


def connect_packet(client: str, user: str, password: str) -> bytes:
    """An MQTT 3.1.1 CONNECT."""
    body = _text("MQTT") + b"\x04\xc2\x00\x3c" + _text(client) + _text(user) + _text(password)
    length = bytearray()
    size = len(body)
    while True:
        size, rest = divmod(size, 128)
        length.append(rest | (128 if size else 0))
        if not size:
            break
    return b"\x10" + bytes(length) + body


class Guesser:
    def __init__(self, host: str, port: int, ca: str, name: str = "") -> None:
        self._at = host, port
        self._name = name or host
        self._tls = ssl.create_default_context(cafile=ca)
        self._kept: list[socket.socket] = []

    def guess(self, order: dict) -> str | int:
        """What the broker answered to one log-in."""
        plain = socket.socket()
        plain.settimeout(order.get("wait", _PATIENCE_S))
        try:
            plain.bind((order["from"], 0))
            plain.connect(self._at)
            link = self._tls.wrap_socket(plain, server_hostname=self._name)
            link.sendall(connect_packet(order["client"], order["user"], order["password"]))
            answer = link.recv(4)
        except TimeoutError:
            return "silent"
        except OSError as error:
            return "refused" if isinstance(error, ConnectionRefusedError) else "closed"
        if len(answer) != 4:
            return "closed"
        if order.get("keep"):
            self._kept.append(link)
        else:
            link.close()
        return answer[3]


def main() -> None:
    guesser = Guesser(sys.argv[1], int(sys.argv[2]), *sys.argv[3:5])
    for line in sys.stdin:
        print(json.dumps(guesser.guess(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
