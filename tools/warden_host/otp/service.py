"""Run codes in an authority: the handler where the engine runs, delivery on its own threads."""

import contextlib
import time
from collections.abc import Callable

from warden_host.engine.engine import Engine
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.otp import otp, settings
from warden_host.otp.handler import OtpHandler
from warden_host.otp.notify.console import ConsoleWay
from warden_host.otp.notify.delivery import DeliveryQueues, Message, Way
from warden_host.otp.notify.mail import MailWay
from warden_host.otp.notify.webhook import WebhookWay
from warden_host.otp.otp import Codes
from warden_host.round_guard import Tell
from warden_host.store.otp import Code, Delivered

Do = Callable[[Callable[[Engine], None]], None]


class OtpService:
    """Run while it is entered. Raises config-malformed, key-permissions, key-damaged."""

    def __init__(self, fleet: Fleet, do: Do, tell: Tell) -> None:
        """tell: called for an unforeseen exception on the threads of deliveries."""
        self._settings = settings.load(fleet)
        self._key = otp.pepper(fleet.keys)
        self._do = do
        self.console = ConsoleWay()
        ways: dict[str, Way] = {"console": self.console}
        if self._settings.mail is not None:
            ways["mail"] = MailWay(self._settings.mail, fleet.keys)
        if self._settings.webhook is not None:
            ways["webhook"] = WebhookWay(self._settings.webhook, fleet.keys)
        self._queues = DeliveryQueues(ways, self._report, tell=tell)
        self._handler: OtpHandler | None = None

    def __enter__(self) -> "OtpService":
        self._queues.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._queues.__exit__()

    def attach(self, engine: Engine) -> None:
        """Attach the handler, on the engine's thread before the first message."""
        codes = Codes(engine.store, self._key, self._settings.limits)
        self._handler = OtpHandler(engine, codes, self._queues.put)

    def standing(self, device: str) -> tuple[Code, int] | None:
        """Return the record of the device's latest code, and the seconds that it is valid for.

        Call it on the engine's thread.
        """
        return None if self._handler is None else self._handler.standing(device)

    def _report(self, message: Message, error: str) -> None:
        """Report a delivery, from its thread, or the engine's when no way took it."""
        handler = self._handler
        report = Delivered(message.device, message.way, message.purpose, time.time(), error)
        if handler is not None:
            with contextlib.suppress(HostError):  # flooded: the report is lost, the message is not
                self._do(lambda _: handler.delivered(report))
