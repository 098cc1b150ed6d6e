"""The whole service against mosquitto, with a device that the test speaks for."""

import queue
import threading
from dataclasses import replace

from engine_kit import SEALED
from host_kit import DEVICE, new_fleet, refused
from live_kit import LiveDevice
from process_kit import PATIENCE_S
from warden_host.broker.accounts import device_account, device_password
from warden_host.broker.mosquitto import registry
from warden_host.devices import setup
from warden_host.engine.events import FleetEvent
from warden_host.engine.request import Request
from warden_host.protocol import policy
from warden_host.service.run import serving
from warden_host.store.store import App, Store


def test_a_fleet_at_work(tmp_path):
    fleet = new_fleet(tmp_path)
    password = device_password()
    with Store(fleet.database) as store:
        store.add_device(SEALED)
    with registry.opened(fleet) as accounts:
        accounts.put(device_account("relay", DEVICE, password))
    news: queue.Queue[FleetEvent] = queue.Queue()

    def wait_event(kind: str) -> FleetEvent:
        while True:
            fleet_event = news.get(timeout=PATIENCE_S)
            if fleet_event.kind == kind:
                return fleet_event

    with serving(fleet, news.put) as service:
        device = LiveDevice(fleet, password)
        assert wait_event("session").app == "authority"
        result = service.authority.command(Request(DEVICE, "set_relay", {"on": 1}))
        assert result["reply"] == {"ok": True, "result": {"on": 1}}
        with Store(fleet.database) as store:  # an application that comes while we serve
            setup.add_app(fleet, store, App("doors", ("door",), ("open",)))
        threads = [threading.Thread(target=service.authority.reload) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
        service.check()
    with serving(fleet, news.put) as service:  # the restarted authority wakes its device
        assert wait_event("session").device == DEVICE
        result = service.authority.command(Request(DEVICE, "set_relay", {"on": 0}))
        assert result["ok"] is True
    device.close()
    assert not fleet.control.exists()


def test_a_packet_above_the_running_brokers_limit_is_refused(tmp_path):
    """The broker would end the link at it, and get it again after each reconnect."""
    fleet = new_fleet(tmp_path)
    password = device_password()
    news: queue.Queue[FleetEvent] = queue.Queue()
    with serving(fleet, news.put) as service:
        record = policy.record(max_message=4096)
        with Store(fleet.database) as store:
            store.add_device(replace(SEALED, policy=record))
        with registry.opened(fleet) as accounts:
            accounts.put(device_account("relay", DEVICE, password))
        service.authority.reload()
        device = LiveDevice(fleet, password, record=record)

        def send(size: int, forge: str = "") -> dict:
            args = {"a": "x" * size}
            request = Request(DEVICE, "set_relay", args, timeout_s=PATIENCE_S, forge=forge)
            return service.authority.command(request)

        try:
            assert send(1)["ok"] is True
            for forge in ("", "plain", "wrong-id"):
                with refused("mqtt-too-large"):
                    send(3000, forge)
            assert send(1700)["ok"] is True
        finally:
            device.close()
    assert [each.kind for each in news.queue].count("command") == 2
