"""Follow changes of a device's applications in fleet.db, while its other sessions go on."""

from dataclasses import replace

from warden_client.protocol.keyschedule import pair_keys

from warden_host.engine.engine import Engine
from warden_host.names import Address


def follow(engine: Engine, device: str) -> None:
    """Hold a session for each application that fleet.db has of a sealed device.

    One that is gone there, or has another key, loses its session. Raises device-unknown.
    """
    state, known = engine.state(device), engine.store.device(device)
    if not state.sealed:
        return
    state.device = replace(state.device, pairs=known.pairs)
    addresses = {pair.appid: Address(known.type, device, pair.appid) for pair in known.pairs}
    kids = {pair.appid: pair_keys(addresses[pair.appid], pair.k).kid for pair in known.pairs}
    for appid, session in list(state.sessions.items()):
        if session.kid != kids.get(appid):
            for held in (state.sessions, state.new_sessions, state.old_sessions, state.numbers):
                held.pop(appid, None)
    for pair in known.pairs:
        if pair.appid not in state.sessions:
            state.sessions[pair.appid] = engine.make_session(state, addresses[pair.appid], pair)
            state.numbers[pair.appid] = pair.event_number
