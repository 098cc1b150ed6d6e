"""Run the demo: real interpreter, real broker, real TLS; only the attacker is staged.

Each line shows what was tried and what happened. The process exits with 1 if a line differs from
what it should be.
"""

import contextlib
import functools
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from rich.console import Console
from warden_host import names
from warden_host.broker.accounts import device_account, device_password
from warden_host.broker.backend import find_program, open_registry
from warden_host.devices import setup
from warden_host.devices.provision import Order, provision
from warden_host.engine.events import FleetEvent
from warden_host.engine.request import FORGERIES, Request
from warden_host.fleet import device_tree, pki
from warden_host.fleet.fleet import BrokerSettings, Fleet, Settings
from warden_host.service.run import Service, serving
from warden_host.sim.simulated import SimulatedDevice
from warden_host.store.store import App, Store

from demo import network as demo_network
from demo import otp as demo_otp
from demo import update as demo_update
from demo.script import Mismatch, Story, wait_for

TYPE, DEVICE, NEIGHBOUR, APP = "lock", "front-door", "mallory", "home"
_WAIT_S = 120.0
# Long enough for a message to pass the broker and the device, when it should not.
_SILENCE_S = 1.5


class Scene:
    """The parts that the lines need: the served fleet, the device's console, and the network."""

    def __init__(self, fleet: Fleet, service: Service, network: demo_network.Network) -> None:
        self.fleet = fleet
        self.service = service
        self.network = network
        self.news: queue.Queue[FleetEvent] = queue.Queue()
        self.console: queue.Queue[str] = queue.Queue()

    def happens(
        self, kind: str, code: str = "", app: str = "", seconds: float = _WAIT_S
    ) -> FleetEvent:
        """Wait for an event of this kind from the device, and skip others."""
        return wait_for(
            self.news,
            lambda news: (
                news.kind == kind
                and news.device == DEVICE
                and code in ("", news.code)
                and app in ("", news.app)
            ),
            f"{kind} {code}".strip(),
            seconds,
        )

    def wait_line(self, word: str) -> str:
        """Wait for a line of the device's console that begins with the word."""
        return wait_for(self.console, lambda line: line.split(" ")[0] == word, word, _WAIT_S)

    def drain(self) -> None:
        """Drop all waiting events and lines."""
        for waiting in (self.news, self.console):
            with contextlib.suppress(queue.Empty):
                while True:
                    waiting.get_nowait()


# -- the device at work -------------------------------------------------------------------------


def connect(scene: Scene) -> str:
    """Wait for the device's session with its application."""
    news = scene.happens("session", app=APP)
    return f"pinned; {news.text}"


def telemetry(scene: Scene) -> str:
    """Wait for an event of the device."""
    news = scene.happens("event")
    return f"{news.name} {news.body}, opened by {news.app}"


def command(scene: Scene) -> str:
    """Give a command, and verify that the device runs it."""
    answer = scene.service.authority.command(Request(DEVICE, "set_relay", {"on": 1}, app=APP))
    if not answer["ok"] or answer["reply"].get("result") != {"on": 1}:
        raise Mismatch(f"answered {answer['reply']}")
    return f"executed: {scene.wait_line('relay')}, reply {answer['reply']['result']}"


# -- servers that lie ---------------------------------------------------------------------------


def impostor(scene: Scene, leaf: pki.Leaf, code: str) -> str:
    """Connect the device to a server with this certificate; the device must name the reason."""
    scene.drain()
    with demo_network.Impostor(leaf) as server:
        scene.network.switch(server.port)
        said = scene.wait_line(code)
        fooled = server.fooled
    scene.network.switch(scene.fleet.settings.broker.port)
    if fooled:
        raise Mismatch("the device finished the hand-shake")
    scene.happens("session", app=APP)
    return f"refused: {said.split(' ')[0]}; then back at the real one"


# -- forged commands ----------------------------------------------------------------------------


def forge_command(scene: Scene, forge: str) -> str:
    """Send a forgery, and verify that the device refuses and reports it."""
    scene.drain()
    request = Request(DEVICE, "set_relay", {"on": 0}, app=APP, forge=forge, timeout_s=_WAIT_S)
    answer = scene.service.authority.command(request)
    if not answer["ok"] or answer["verdict"] != FORGERIES[forge]:
        raise Mismatch(f"the device's verdict was {answer['verdict']}")
    return f"refused, and reported: {answer['verdict']}"


# -- a client with a valid account ------------------------------------------------------------


class Mallory:
    """A device of the same type whose password is known to the attacker."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._password = device_password()
        account = device_account(TYPE, NEIGHBOUR, self._password)
        with open_registry(fleet) as accounts:
            accounts.put(account)
        self._user = account.username

    def connect(self, client_id: str) -> tuple[mqtt.Client, str]:
        """Return the client, its loop running, and the answer of the broker."""
        answer: queue.Queue[str] = queue.Queue()
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id)
        client.username_pw_set(self._user, self._password)
        client.tls_set(str(self._fleet.keys / "ca.crt"))
        client.on_connect = lambda _c, _u, _f, reason, _p: answer.put(str(reason))
        client.on_subscribe = lambda _c, _u, _m, reasons, _p: answer.put(str(reasons[0]))
        client.connect("127.0.0.1", self._fleet.settings.broker.port)
        client.loop_start()
        client.user_data_set(answer)
        return client, self.broker_answer(client)

    def broker_answer(self, client: mqtt.Client) -> str:
        """Return the broker's next answer."""
        answer: queue.Queue[str] = client.user_data_get()
        try:
            return answer.get(timeout=_WAIT_S)
        except queue.Empty:
            raise Mismatch("the broker did not answer") from None

    @contextlib.contextmanager
    def online(self) -> Iterator[mqtt.Client]:
        """Connect under the account's own client ID."""
        client, answer = self.connect(self._user)
        try:
            if answer != "Success":
                raise Mismatch(f"its own log-in failed: {answer}")
            yield client
        finally:
            client.disconnect()
            client.loop_stop()


def steal_client_id(scene: Scene, mallory: Mallory) -> str:
    """Connect under the device's client ID; the broker must not take the device for replaced."""
    client, answer = mallory.connect(names.device_client(TYPE, DEVICE))
    try:
        if answer != "Success":
            return f"refused by the broker: {answer}"
        command(scene)  # over the device's own connection, which is there still
        if DEVICE not in scene.service.authority.ask(lambda engine: engine.online()):
            raise Mismatch("the device was pushed off")
        return "gets its own name instead; the device stays connected"
    finally:
        client.disconnect()
        client.loop_stop()


def subscribe(mallory: Mallory) -> str:
    """Subscribe to the device's commands; the broker must refuse."""
    with mallory.online() as client:
        client.subscribe(f"iot-2/type/{TYPE}/id/{DEVICE}/cmd/#", qos=1)
        answer = mallory.broker_answer(client)
    if answer != "Unspecified error":  # what paho calls a SUBACK of 0x80
        raise Mismatch(f"the broker granted it: {answer}")
    return "refused by the broker: not granted"


def publish(scene: Scene, mallory: Mallory) -> str:
    """Publish on the device's topics; neither authority nor device may see it."""
    scene.drain()
    with mallory.online() as client:
        base = f"iot-2/type/{TYPE}/id/{DEVICE}"
        for topic in (f"{base}/evt/temperature/fmt/json", f"{base}/cmd/set_relay/fmt/json"):
            client.publish(topic, b'{"event": "temperature", "body": {}}', qos=1).wait_for_publish(
                5
            )
        # Anything that arrives is a fleet event: a refusal of the authority, or an incident.
        for kind in ("refused", "incident"):
            try:
                news = scene.happens(kind, seconds=_SILENCE_S)
            except Mismatch:
                continue
            raise Mismatch(f"it arrived: {news.kind} {news.code}")
    return "dropped: neither the authority nor the device saw it"


# -- the story ----------------------------------------------------------------------------------


def run_chapter(story: Story, scene: Scene, mallory: Mallory) -> None:
    """Run all chapters after the set-up."""
    story.line("the device connects and starts a session", lambda: connect(scene))
    story.line("it reports its temperature", lambda: telemetry(scene))
    story.line("its owner's application sends set_relay", lambda: command(scene))

    story.chapter("Servers that play the broker")
    ours = pki.load_ca(scene.fleet.keys)
    key = pki.load_key(scene.fleet.keys / "server.key")
    here = ("127.0.0.1", "localhost")
    past = datetime.now(UTC) - timedelta(days=1)
    servers = (
        (
            "another key, signed by another CA",
            pki.new_ca().issue(here),
            "certificate-untrusted",
        ),
        ("the right CA, but a key not pinned", ours.issue(here), "pin-mismatch"),
        (
            "the pinned key, but another name",
            ours.issue(("evil.example",), key=key),
            "certificate-name",
        ),
        (
            "the pinned key, but expired",
            ours.issue(here, key=key, not_after=past),
            "certificate-expired",
        ),
    )
    for tried, leaf, code in servers:
        story.line(tried, functools.partial(impostor, scene, leaf, code))

    story.chapter("Commands that are not the owner's")
    forgeries = {
        "wrong-id": "a command with a wrong application ID",
        "tamper": "a command with one bit changed",
        "replay": "a command recorded and played back",
        "old-session": "a command from an earlier session",
        "plain": "a plain command to a sealed device",
    }
    for forge, tried in forgeries.items():
        story.line(tried, functools.partial(forge_command, scene, forge))

    story.chapter("A client with a valid account of its own")
    story.line("connects under the device's client ID", lambda: steal_client_id(scene, mallory))
    story.line("subscribes to the device's topics", lambda: subscribe(mallory))
    story.line("publishes on the device's topics", lambda: publish(scene, mallory))

    story.chapter("Updates that can't brick")
    demo_update.run_chapter(story, scene.fleet, scene.service)

    story.chapter("After all that")
    story.line("its owner's application sends set_relay", lambda: command(scene))

    story.chapter("The right person at the keypad of another device")
    demo_otp.run_chapter(story, scene.fleet, scene.service)


def main() -> int:
    """Run the demo in a temporary folder."""
    console = Console(width=None if sys.stdout.isatty() else 110, highlight=False)
    story = Story(console)
    version = subprocess.run(
        [device_tree.micropython(), "-c", "import sys; print(sys.version.split('; ')[1])"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    console.print(
        f"[bold]Warden[/bold] on {version}, with {Path(find_program()).name} as its broker."
    )
    port, admin_port = demo_network.free_ports(2)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(demo_network.folder())
        network = stack.enter_context(demo_network.Network(port))
        console.print("The attacker owns the network between the two.")
        story.chapter("A device that obeys only its owner")
        made = set_up(
            story,
            folder,
            BrokerSettings(port=port, device_port=network.port, admin_port=admin_port),
        )
        if made is None:
            return story.end()
        mallory = Mallory(made)
        news: queue.Queue[FleetEvent] = queue.Queue()
        scene = Scene(made, stack.enter_context(serving(made, news.put)), network)
        scene.news = news
        device = stack.enter_context(SimulatedDevice(made.simulated(DEVICE)))
        threading.Thread(target=device.lines, args=(scene.console.put,), daemon=True).start()
        run_chapter(story, scene, mallory)
    return story.end()


def set_up(story: Story, folder: Path, broker: BrokerSettings) -> Fleet | None:
    """Return a fleet with one application and one device; None when that failed."""
    fleets: list[Fleet] = []

    def make() -> str:
        fleets.append(setup.new_fleet(folder / "fleet", Settings(broker, ())))
        live, backup = pki.load_pins(fleets[0].keys)
        return f"pins {live.hex()[:8]}… and, as a backup, {backup.hex()[:8]}…"

    def order() -> str:
        with Store(fleets[0].database) as store:
            setup.add_app(fleets[0], store, App(APP, (TYPE,), ("set_relay", "get_relay")))
            device = provision(fleets[0], store, Order(DEVICE, TYPE))
        return f"{device.device}: its secrets are in its vault, sealed"

    story.line("its owner makes a fleet", make)
    story.line("and provisions a device", order)
    return fleets[0] if not story.failures else None
