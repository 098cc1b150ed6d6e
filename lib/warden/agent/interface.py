"""What a feature (the gate, rotations, updates) may use of the agent that it runs in.

For type checkers alone: a board's build leaves this module out.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Coroutine, Protocol

    from ..errors import PeerError
    from ..gate.gate import Gate
    from ..net.clock import Clock
    from ..net.link import Link
    from ..net.mqtt import Client
    from ..net.verifier import TrustAnchors
    from ..ota.standby import Standby
    from ..policy.policy import Policy
    from ..session.command import Commands
    from ..session.inbox import Inbox
    from ..session.plain import Plain
    from ..session.session import Session
    from ..token.keeper import Tokens
    from ..vault import Vault
    from ..wire.names import Topics
    from .delivery import Delivery

    class Pending(Protocol):
        """New secrets that are not proven yet (rotation/commands.py, networks.py, policies.py)."""

        def choose_secrets(self) -> None: ...  # before each connection
        def failed(self, error: PeerError) -> bool: ...  # whether to try again at once
        def check(self) -> None: ...  # after each change of a session
        def due_ms(self, now: int) -> int | None: ...  # when to call it again

    # Takes this agent, a policy record, which counts from the next connection on, and brokers
    # (use_policy() of agent/build.py).
    UsePolicy = Callable[[Any, bytes | None, list[Any] | None], dict[str, bytes | None]]

    class Agent(Protocol):
        vault: Vault  # open
        names: Topics
        policy: Policy
        clock: Clock
        client: Client  # the MQTT connection
        link: Link | None  # the TLS connection below it, from the first attempt on
        trust: TrustAnchors  # what the next connection is checked against
        commands: Commands
        inbox: Inbox
        sessions: list[Session]  # one for each application, and for each new key of a rotation
        plain: Plain | None  # instead of sessions in plain mode
        gate: Gate | None  # while it is shut
        rotation: Pending | None  # while a rotation, or a change of networks or policy, is pending
        delivery: Delivery | None  # where the policy has an outbox
        alone: bool  # the authority is the only application
        wakeup: Any  # asyncio.Event: something may be due, or has changed
        token: Tokens | None  # where the policy asks for one
        session_up: Any  # asyncio.Event: any application's session is up, or all IDs known
        network: Any  # None where the board is online, else as in hal/network_wifi.py
        ota: Standby | None  # on a board with slots
        health: Callable[[], Any] | None  # the application's health check; may be async
        # Called once after the next reply was sent.
        after_reply: Callable[["Agent"], Coroutine[Any, Any, None]] | None
        use_policy: UsePolicy
        # Takes this agent, a reaction of the policy and a place (agent/tamper.py).
        tampered: Callable[[Any, str, str], Coroutine[Any, Any, None]]
        log: Callable[[str, str], None]  # takes a code and a text
        now_ms: Callable[[], int]  # milliseconds since the start, which never go back

        def authority(self) -> Session | None: ...
        def post(self, topic: bytes, data: bytes | memoryview, qos: int = 0) -> Any: ...
        async def send(self, event: str, body: dict[str, Any], wrap: bool = True) -> bool: ...
        def report(self, code: str, at: str, count: int = 1, source: str = "") -> None: ...
        def restart(self) -> None: ...
