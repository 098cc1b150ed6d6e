"""A process of honest devices, so that no test shares their interpreter.

python -m attack.honest: the first line of standard input is {"fleet": path, "devices": {name:
password}}. They answer commands and send a numbered event each PERIOD_S. Each further line asks
for the figures, which are printed as one line of JSON: {name: [events sent, connections]}.
"""

import json
import sys
import threading
import time
from pathlib import Path

from live_kit import LiveDevice
from warden_host.fleet.fleet import Fleet

PERIOD_S = 0.25


class Honest(LiveDevice):
    """Counts its connections: an honest device keeps the one that it has."""

    connections = 0
    sent = 0

    def __init__(self, *given) -> None:
        self.sealing = threading.Lock()  # its replies come from paho's thread
        super().__init__(*given)

    def seal(self, *given, **more) -> bytes:
        with self.sealing:
            return super().seal(*given, **more)

    def on_message(self, client, data, message) -> None:
        if "/cmd/welcome/" in message.topic:
            self.connections += 1
        super().on_message(client, data, message)


def main() -> None:
    order = json.loads(sys.stdin.readline())
    fleet = Fleet(Path(order["fleet"]))
    devices = {name: Honest(fleet, password, name) for name, password in order["devices"].items()}
    stop = threading.Event()
    guard = threading.Lock()

    def work() -> None:
        while not stop.wait(PERIOD_S):
            with guard:
                for each in devices.values():
                    if each.keys:
                        body = [0, None, {"n": each.sent}]
                        each.send_event("temperature", each.seal("temperature", body))
                        each.sent += 1

    while not all(each.keys for each in devices.values()):
        time.sleep(0.01)
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    print("{}", flush=True)
    for line in sys.stdin:
        with guard:
            figures = {name: [each.sent, each.connections] for name, each in devices.items()}
        print(json.dumps(figures), flush=True)
        if line.strip() == "end":
            break
    stop.set()
    thread.join()
    for each in devices.values():
        each.close()


if __name__ == "__main__":
    main()
