"""`warden show`: all that the fleet knows of one device."""

import click

from warden_host import names
from warden_host.broker import connection
from warden_host.cli import log, screen
from warden_host.cli.common import State, json_option, pass_state
from warden_host.fleet import errors_page
from warden_host.protocol import policy
from warden_host.reactions.settings import DEREGISTER, QUARANTINE, Rules
from warden_host.service import device_view, live_state
from warden_host.service.device_view import HOURS, Known
from warden_host.store.endings import Ending
from warden_host.store.history import Entry
from warden_host.store.incidents import Incident
from warden_host.store.reactions import Reaction
from warden_host.store.store import Store

_INCIDENTS = 12  # shown to people


@click.command(short_help="Show all that the fleet knows of a device.")
@click.argument("device")
@json_option
@pass_state
def show(state: State, device: str, as_json: bool) -> None:
    """Show all that the fleet knows of a device: who it is, what it may do, how it is.

    \b
    Examples:
      warden show front-door
      warden show front-door --json | jq .incidents
    """
    fleet = state.fleet()
    names.check_id(device, "device ID")
    live = live_state.ask(fleet)
    with Store(fleet.database) as store:
        found = device_view.collect(fleet, store, device, live)
    if as_json:
        screen.print_json(device_view.record(found))
    else:
        _print(found)


def _print(found: Known) -> None:
    known = found.device
    screen.heading(known.device, found.state)
    for name, value in _facts(found):
        screen.field(name, value)
    screen.heading("Applications")
    sessions = (found.live.online or {}).get(known.device, [])
    for pair in known.pairs:
        session = "session" if pair.appid in sessions else "no session"
        screen.field(pair.appid, f"{session}; may {', '.join(pair.commands) or 'nothing'}")
    screen.heading(f"Last {HOURS} hours")
    counts = ", ".join(f"{count} {name}" for name, count in found.counts.items())
    screen.field("events", counts or "none")
    for entry in found.newest:
        screen.show(screen.line(log.as_event(entry), with_day=True))
    _print_incidents(found.incidents)


def _facts(found: Known) -> list[tuple[str, str]]:
    known = found.device
    gate = policy.gate(known.policy)
    opens = "no gate" if gate is None else f"a gate with codes of {gate['source']}"
    facts = [
        ("type", f"{known.type}, {known.mode}, board {known.board}"),
        ("groups", ", ".join(found.groups)),
        ("connects by", str(connection.of_record(known.policy))),
        ("last seen", screen.ago(known.last_seen)),
        ("starts", f"boot {known.mark.boot}, vault generation {known.mark.vault_gen}"),
        ("release", _release(found.release)),
        ("policy", f"{opens}; `warden policy show {known.device}` shows all of it"),
    ]
    if known.mark.quarantine:
        facts.append(("quarantine", known.mark.quarantine))
    if known.reaction is not None:
        facts.append(("reaction", _reaction(known.reaction)))
    facts.append(("reacts to", _rules(found.rules)))
    if known.diverged:
        facts.append(("diverged", "its policy differs from the fleet's"))
    if known.next_policy is not None:
        facts.append(("tries", "another policy, which it has not proved yet"))
    if found.rotation is not None:
        parts = ", ".join(sorted(found.rotation.body.keys() - {"id", "deadline"}))
        facts.append(("rotation", f"not finished: {parts}; `warden rotate {known.device}`"))
    facts += [
        ("certificate", f"{one.kind}, until {screen.day(one.expires)}")
        for one in found.certificates
    ]
    if found.log is not None:
        missing = f"{found.log.missing} missing" if found.log.missing else "none is missing"
        facts.append(("incident log", f"complete to record {found.log.number}; {missing}"))
    if known.ending is not None:
        facts.append(("ending", _ending(known.ending)))
    return [(name, value) for name, value in facts if value]


def _release(step: Entry | None) -> str:
    if step is None:
        return "that of its provisioning: no rollout reached it"
    return f"{step.text}, accepted {screen.ago(step.time)}"


def _reaction(reaction: Reaction) -> str:
    words = f"{reaction.kind} for {reaction.code} {screen.ago(reaction.since)}: {reaction.text}"
    return words + ("; it is being let in again" if reaction.readmitting else "")


def _rules(rules: Rules) -> str:
    """Return the codes that lead to more than an alert, and the budget of a flood."""
    kinds = [
        f"{code} by {kind}"
        for code, kind in sorted(rules.reactions.items())
        if kind in (QUARANTINE, DEREGISTER)
    ]
    budget = rules.budget
    return f"{', '.join(kinds) or 'nothing'}; flood above {budget.messages_s} messages/s"


def _ending(ending: Ending) -> str:
    words = "revoked and to be wiped" if ending.revoked and ending.wipe else "revoked"
    if not ending.revoked:
        words = "to be wiped on its next contact"
    return f"{words}, ordered {screen.day(ending.ordered)}"


def _print_incidents(incidents: list[Incident]) -> None:
    if not incidents:
        return
    more = len(incidents) - _INCIDENTS
    left = f", the newest {_INCIDENTS} of {len(incidents)}" if more > 0 else ""
    screen.heading(f"Incidents{left}")
    meanings = errors_page.entries()
    for one in incidents[-_INCIDENTS:]:
        at = f" at {one.at}" if one.at else ""
        at += f" from {one.app}" if one.app else ""
        times = f", {one.n} times since {screen.day(one.first)}" if one.n > 1 else ""
        who = "it reports" if one.source == "device" else "refused"
        screen.show(f"  {screen.day(one.time)}  {who} {one.code}{at}{times}")
        meaning = meanings.get(one.code)
        if meaning is not None:
            screen.note(meaning.means)
