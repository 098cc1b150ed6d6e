"""What a feature (the gate, rotations, updates) may use of the agent that it runs in.

For type checkers alone: a board's build leaves this module out.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Coroutine, Protocol

    from ..gate.gate import Gate
    from ..net.clock import Clock
    from ..net.link import Link
    from ..net.mqtt import Client
    from ..net.verifier import TrustAnchors
    from ..ota.service import UpdateService
    from ..policy.policy import Policy
    from ..rotation.commands import PendingRotation
    from ..session.inbox import Inbox
    from ..session.plain import Plain
    from ..session.session import Session
    from ..vault import Vault
    from ..wire.names import Topics

    class Agent(Protocol):
        vault: Vault  # open
        names: Topics
        policy: Policy
        clock: Clock
        client: Client  # the MQTT connection
        link: Link | None  # the TLS connection below it, from the first attempt on
        trust: TrustAnchors  # what the next connection is checked against
        inbox: Inbox
        sessions: list[Session]  # one for each application, and for each new key of a rotation
        plain: Plain | None  # instead of sessions in plain mode
        gate: Gate | None  # while it is shut
        rotation: PendingRotation | None  # while one is pending
        ota: UpdateService | None  # on a board with slots
        health: Callable[[], Any] | None  # the application's health check; may be async
        # Called once after the next reply was sent.
        after_reply: Callable[["Agent"], Coroutine[Any, Any, None]] | None
        log: Callable[[str, str], None]  # takes a code and a text
        now_ms: Callable[[], int]  # milliseconds since the start, which never go back

        def authority(self) -> Session | None: ...
        async def send(self, event: str, body: dict[str, Any], wrap: bool = True) -> bool: ...
        def report(self, code: str, at: str, count: int = 1) -> None: ...
        def restart(self) -> None: ...
