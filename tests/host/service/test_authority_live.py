"""The whole service against mosquitto, with a device that the test speaks for."""

import queue
import ssl
import threading

import paho.mqtt.client as mqtt
from children import PATIENCE_S
from engine_stage import POLICY, SEALED, K
from host_kit import DEVICE, PeerDevice, new_fleet
from warden_host.broker.mosquitto import dynsec, registry
from warden_host.devices import setup
from warden_host.engine.commands import Request
from warden_host.engine.events import FleetEvent
from warden_host.protocol import policy
from warden_host.service.run import serving
from warden_host.store.store import App, Store


class LiveDevice(PeerDevice):
    """Answers welcomes and commands over a real connection, on paho's thread."""

    def __init__(self, fleet, password: str, device: str = DEVICE) -> None:
        super().__init__(K["authority"], policy.policy_hash(POLICY), device=device)
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="d:relay:" + device)
        self.client.username_pw_set("d:relay:" + device, password)
        self.client.tls_set_context(ssl.create_default_context(cafile=str(fleet.keys / "ca.crt")))
        self.client.on_connect = lambda c, *_: c.subscribe(
            self.topic("cmd", "+").replace("+/fmt/cose", "#"), 1
        )
        self.client.on_subscribe = lambda *_: self.say("hello", self.hello())
        self.client.on_message = self.on_message
        self.client.connect("127.0.0.1", fleet.settings.broker.port)
        self.client.loop_start()

    def say(self, event: str, data: bytes) -> None:
        self.client.publish(self.topic("evt", event), data, qos=0)

    def on_message(self, _client, _data, message) -> None:
        verb = message.topic.split("/")[6]
        if verb == "welcome":
            self.take_welcome(message.payload)
            self.say("ready", self.ready())
        elif verb == "wake":
            self.say("hello", self.hello(wake=self.wake_nonce(message.payload)))
        elif verb != "ack":
            _, (number, _, body) = self.open(verb, message.payload)
            answer = {"ok": True, "result": body}
            self.say("reply", self.seal("reply", [number, None, answer]))

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def test_a_fleet_at_work(tmp_path):
    fleet = new_fleet(tmp_path)
    password = dynsec.device_password()
    with Store(fleet.database) as store:
        store.add_device(SEALED)
    with registry.opened(fleet) as accounts:
        accounts.put(dynsec.device_account("relay", DEVICE, password))
    news: queue.Queue[FleetEvent] = queue.Queue()

    def heard(kind: str) -> FleetEvent:
        while True:
            fleet_event = news.get(timeout=PATIENCE_S)
            if fleet_event.kind == kind:
                return fleet_event

    with serving(fleet, news.put) as service:
        device = LiveDevice(fleet, password)
        assert heard("session").app == "authority"
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
        assert heard("session").device == DEVICE
        result = service.authority.command(Request(DEVICE, "set_relay", {"on": 0}))
        assert result["ok"] is True
    device.close()
    assert not fleet.control.exists()
