"""The unit under a systemd of its own, process 1 in namespaces: it serves, and comes back."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from process_kit import PATIENCE_S

REPO = Path(__file__).resolve().parents[3]
SYSTEMD = "/usr/lib/systemd/systemd"
# What a virtual environment links to may lie in a home that other users can't enter.
SCRIPT = """
set -e
mount --make-rprivate /
umount -R /sys/fs/cgroup || umount -l /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system /run/units/warden.service.d /run/python
mount --bind "$BASE" /run/python
case "$BASE" in /root/*)
    mount -t tmpfs -o mode=755 tmpfs /root
    mkdir -p "$BASE"
    mount --bind /run/python "$BASE"
esac
mount -t tmpfs -o mode=777 tmpfs /srv
ip link set lo up
cd /srv
setpriv --reuid=65534 --regid=65534 --clear-groups env HOME=/srv \
    "$PYTHON" -m warden_host.cli init /srv/fleet
"$PYTHON" -m warden_host.cli --fleet /srv/fleet service install --folder /run/units
for name in sysinit basic shutdown network-online time-sync multi-user; do
    printf "[Unit]\\nDefaultDependencies=no\\n" > /run/units/$name.target
done
printf "[Unit]\\nDefaultDependencies=no\\nWants=warden.service\\n" > /run/units/test.target
printf "[Service]\\nEnvironment=PYTHONPATH=$PYTHONPATH\\n" > /run/units/warden.service.d/path.conf
exec env -i SYSTEMD_UNIT_PATH=/run/units container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /usr/lib/systemd/systemd --system --unit=test.target --log-target=console --show-status=no
"""
TOOLS = ("unshare", "nsenter", "setpriv", "ip", "mosquitto", "systemctl")


@pytest.fixture
def inside(tmp_path):
    """Return what runs systemctl beside the service; the namespaces end with the test."""
    if os.geteuid() or not Path(SYSTEMD).exists() or None in map(shutil.which, TOOLS):
        pytest.skip("needs root, systemd and mosquitto")
    values = {"PYTHON": sys.executable, "BASE": sys.base_prefix, "PYTHONPATH": f"{REPO}/tools"}
    command = ["unshare", "-mpfuCn", "--kill-child", "--mount-proc", "bash", "-c", SCRIPT]
    with (tmp_path / "log").open("w") as log:
        made = subprocess.Popen(command, env=os.environ | values, stdout=log, stderr=log)
    children = Path(f"/proc/{made.pid}/task/{made.pid}/children")

    def ask(*words):
        if made.poll() is not None:
            pytest.skip("no systemd here: " + (tmp_path / "log").read_text()[-500:])
        enter = ["nsenter", "-t", (children.read_text().split() or ["0"])[0], "-m", "-p", "-C"]
        done = subprocess.run([*enter, *words], capture_output=True, text=True, timeout=PATIENCE_S)
        return done.stdout.strip()

    yield ask
    made.kill()
    made.wait()


def wait_for(condition):
    limit = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.2)


def test_it_serves_and_comes_back(inside):
    def show(name):
        return inside("systemctl", "show", "--value", "-p", name, "warden.service")

    wait_for(lambda: show("ActiveState") == "active")  # it told that it serves
    first = show("MainPID")
    inside("kill", "-9", first)
    wait_for(lambda: show("NRestarts") == "1" and show("ActiveState") == "active")
    assert show("MainPID") not in ("0", first)
