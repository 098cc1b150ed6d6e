"""Follow a change of a device's policy in fleet.db, while its sessions go on."""

from dataclasses import replace

from warden_host.engine.engine import Engine
from warden_host.protocol.policy import policy_hash


def follow(engine: Engine, device: str) -> None:
    """Expect of a device the policies that fleet.db has of it. Raises device-unknown."""
    state, known = engine.state(device), engine.store.device(device)
    state.device = replace(
        state.device,
        policy=known.policy,
        next_policy=known.next_policy,
        diverged=known.diverged,
    )
    for session in (*state.sessions.values(), *state.new_sessions.values()):
        session.policy_hash = policy_hash(known.policy)
        session.next_policy_hash = policy_hash(known.next_policy)
