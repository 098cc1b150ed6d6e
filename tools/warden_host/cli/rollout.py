"""`warden rollout` and `rollouts`: bring a release to devices, and watch it."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from warden_host import control_client, jsontext
from warden_host.cli import screen
from warden_host.cli.common import State, json_option, pass_state, stoppable
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.rollout import plan, rollouts
from warden_host.rollout.plan import ACCEPTED, BUSY, FAILED, FINAL, STATES, WAITING
from warden_host.store.store import Store

Line = dict[str, Any]
_BARS = 12  # of single devices, on a screen
_STYLES = {ACCEPTED: "bold green"} | dict.fromkeys(FAILED, "bold red")


@click.command()
@click.argument("release")
@click.option("--device", "devices", multiple=True, help="To this device. Repeatable.")
@click.option("--type", "type_", default="", help="To all devices of this type.")
@click.option("--group", default="", help="To the devices of this `warden group`.")
@click.option(
    "--percent",
    type=click.IntRange(1, 100),
    default=100,
    help="To this share of them; a higher share later includes these devices.",
)
@click.option(
    "--wave",
    "waves",
    default="100%",
    metavar="10%,50%,100%",
    help="In waves: the next one starts when the one before succeeded.",
)
@click.option(
    "--max-failures",
    default="10%",
    show_default=True,
    help="Stop when more than this share of the devices reached fail, or more than this number.",
)
@click.option(
    "--at-once",
    type=click.IntRange(1, 1000),
    default=20,
    show_default=True,
    help="Concurrent downloads.",
)
@click.option(
    "--trial",
    "trial_s",
    type=click.IntRange(10, 7 * 24 * 3600),
    default=1800,
    show_default=True,
    metavar="S",
    help="Time from a device's restart to its confirmation, seconds.",
)
@click.option(
    "--no-web", is_flag=True, help="Send chunks from `serve` alone, even if the release has a URL."
)
@click.option(
    "--web-pin",
    "web_pins",
    multiple=True,
    metavar="HEX",
    help="SPKI SHA-256 of the web server's key, and of its backup. Default: the broker's.",
)
@json_option
@pass_state
def rollout(
    state: State,
    release: str,
    devices: tuple[str, ...],
    type_: str,
    group: str,
    percent: int,
    waves: str,
    max_failures: str,
    at_once: int,
    trial_s: int,
    no_web: bool,
    web_pins: tuple[str, ...],
    as_json: bool,
) -> int:
    """Bring a release to devices, and show the progress. `warden serve` does the work.

    Ctrl-C ends the display alone; the same command shows the same rollout again. A rollout stops
    by itself when too many devices fail; devices that are offline get the release on their next
    contact.

    \b
    Examples:
      warden rollout lock-1.4.0 --device front-door
      warden rollout lock-1.4.0 --type lock --wave 10%,50%,100%
      warden rollout lock-1.4.0 --group ground-floor
      warden rollout lock-1.4.0 --type lock --percent 5 --max-failures 0 --json
    """
    if sum(map(bool, (devices, type_, group))) != 1:
        raise click.UsageError("a rollout is for --device D, or for --type T, or for --group G")
    plan.parse_waves(waves)
    plan.parse_failures(max_failures)
    plan.parse_pins(list(web_pins))
    request = {
        "op": "rollout",
        "release": release if state.socket else release_name(state.fleet(), release),
        "devices": list(devices),
        "type": type_,
        "group": group,
        "percent": percent,
        "waves": waves,
        "max_failures": max_failures,
        "at_once": at_once,
        "trial_s": trial_s,
        "web": not no_web,
        "web_pins": list(web_pins),
    }
    return _follow(state.control(), request, as_json)


@click.command("rollouts")
@click.argument("number", type=click.IntRange(1, 1 << 53), required=False)
@click.option("--follow", is_flag=True, help="Show the progress, as `warden rollout` does.")
@click.option("--stop", is_flag=True, help="Stop it: devices cancel their downloads.")
@click.option(
    "--resume", is_flag=True, help="Resume one that stopped, after you looked at the failures."
)
@json_option
@pass_state
def rollouts_command(
    state: State, number: int | None, follow: bool, stop: bool, resume: bool, as_json: bool
) -> int:
    """List the rollouts; or show, stop or resume one.

    \b
    Examples:
      warden rollouts
      warden rollouts 3
      warden rollouts 3 --stop
      warden rollouts 3 --resume
    """
    if number is None:
        if follow or stop or resume:
            raise click.UsageError("name the rollout: `warden rollouts` lists them")
        _list(state.fleet(), as_json)
        return 0
    if stop:
        _stop(state, number)
        if as_json:
            screen.print_json({"ok": True, "rollout": number})
        else:
            screen.good(f"rollout {number} is stopped")
        return 0
    if follow or resume:
        operation = "rollout-resume" if resume else "rollout-watch"
        return _follow(state.control(), {"op": operation, "rollout": number}, as_json)
    _one(state.fleet(), number, as_json)
    return 0


def release_name(fleet: Fleet, given: str) -> str:
    """Return a release's name, given its name or its folder in this fleet."""
    path = Path(given)
    if path.is_dir() and path.resolve().parent == (fleet.root / "releases").resolve():
        return path.resolve().name
    return given


def _stop(state: State, number: int) -> None:
    try:
        control_client.call(state.control(), {"op": "rollout-stop", "rollout": number})
    except HostError as error:
        if error.code != "not-serving" or state.socket:
            raise
        with Store(state.fleet().database) as store:
            record = store.rollout(number)
            if record.state == "active":
                store.set_rollout(number, "stopped", "its owner stopped it", record.forgiven)


def _follow(path: Path, request: Line, as_json: bool) -> int:
    last: Line = {}
    over = False
    with stoppable(as_json, "no longer shown") as stop:
        with _shown(as_json) as show:
            for line in control_client.stream(path, request, stop=stop):
                if "left_out" in line and not as_json:
                    summary = ", ".join(
                        f"{count} {why}" for why, count in line["left_out"].items()
                    )
                    screen.show(Text(f"left out: {jsontext.printable(summary)}", style="yellow"))
                    continue
                show(line)
                if "counts" in line:
                    last = line
                over = last.get("state") in ("done", "stopped", "resting")
                if over:
                    break
        if not over and not stop.requested:
            raise HostError(
                "not-serving",
                "`warden serve` ended in the meantime",
                "start it again: the rollout continues; then repeat the command",
            )
    if over:
        if not as_json:
            _ended(last)
        return 1 if last["state"] == "stopped" or _failed(last) else 0
    if not as_json and last:
        screen.show(f"rollout {last.get('rollout')} continues: `warden rollouts`")
    return 130


# Codes of devices that mean something special in a rollout.
_MEANS = {
    "tampered": "it may not have the key that signed this: `warden rotate DEVICE --release-keys`",
    "unknown-command": "it can't update, provisioned before the fleet had a release key: "
    "`warden provision --again`",
}


def _ended(last: Line) -> None:
    counts = _counts(last)
    summary = ", ".join(f"{count} {state}" for state, count in counts.items())
    number, release = last.get("rollout"), jsontext.printable(str(last.get("release", "")))
    if last["state"] == "stopped":
        why = jsontext.printable(str(last.get("reason", "")))
        screen.show(
            Text.assemble(("✗ ", "bold red"), f"rollout {number} of {release} stopped: {why}")
        )
        screen.show(Text(f"  {summary}", style="dim"))
        meaning = _MEANS.get(why.rpartition(" ")[2])
        if meaning:
            screen.show(Text(f"  {meaning}", style="dim"))
        screen.show(
            Text(
                f"  → look at the failed devices, then `warden rollouts {number} --resume`",
                style="dim",
            )
        )
    elif last["state"] == "resting":
        notes = ["offline devices get it on their next contact, while `warden serve` runs"]
        if "Waiting" in counts:
            notes.append("the next wave waits until a device of this wave accepts it")
        screen.good(f"rollout {number} of {release}: {summary}", *notes)
    else:
        screen.good(f"rollout {number} of {release} is done: {summary}")


def _counts(line: Line) -> dict[str, int]:
    found = line.get("counts")
    known = found if isinstance(found, dict) else {}
    return {state: known[state] for state in STATES if isinstance(known.get(state), int)}


def _failed(line: Line) -> int:
    return sum(count for state, count in _counts(line).items() if state in FAILED)


@contextmanager
def _shown(as_json: bool) -> Iterator[Callable[[Line], None]]:
    if as_json:
        yield screen.print_json
    elif not screen.out.is_terminal:
        yield _Plain().show
    else:
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(24),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[word]}"),
            console=screen.out,
        ) as progress:
            yield _Bars(progress).show


def _word(state: str, reason: str) -> Text:
    word = state if state in STATES else "unreadable"
    return Text(f"{word} {jsontext.printable(reason)}".strip(), style=_STYLES.get(word, ""))


class _Plain:
    """Print a line for each change, for logs."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def show(self, line: Line) -> None:
        device, state = str(line.get("device", "")), str(line.get("state", ""))
        if device and self._known.get(device) != state:
            self._known[device] = state
            words = _word(state, str(line.get("reason", "")))
            screen.show(Text.assemble(f"{jsontext.printable(device):<16} ", words))


class _Bars:
    """Draw one bar for the whole rollout, and one for each device at work."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._all: TaskID | None = None
        self._tasks: dict[str, TaskID] = {}
        self._states: dict[str, str] = {}
        self._counts: Counter[str] = Counter()

    def show(self, line: Line) -> None:
        for row in line.get("targets", []):
            self._note(str(row[0]), str(row[2]))
        if "device" in line:
            self._device(line)
        elif "counts" in line and self._all is None:
            name = jsontext.printable(str(line.get("release", "")))
            self._all = self._progress.add_task(name, total=1, word="")
        if self._all is not None and self._states:
            over = sum(self._counts[state] for state in FINAL)
            failed = sum(self._counts[state] for state in FAILED)
            word = f"{over} of {len(self._states)}" + (f", {failed} failed" if failed else "")
            self._progress.update(
                self._all, total=len(self._states), completed=over, word=Text(word)
            )

    def _note(self, device: str, state: str) -> None:
        self._counts[self._states.get(device, "")] -= 1
        self._counts[state] += 1
        self._states[device] = state

    def _device(self, line: Line) -> None:
        device, state = str(line["device"]), str(line.get("state", ""))
        self._note(device, state)
        word = _word(state, str(line.get("reason", "")))
        task = self._tasks.get(device)
        if state not in BUSY or state == WAITING:
            if task is not None:
                self._progress.remove_task(self._tasks.pop(device))
            if state != WAITING:
                self._progress.console.print(
                    Text.assemble(f"  {jsontext.printable(device):<16} ", word)
                )
            return
        if task is None:
            if len(self._tasks) >= _BARS:
                return
            name = "  " + jsontext.printable(device)
            task = self._tasks[device] = self._progress.add_task(name, total=1, word="")
        total = max(1, int(line.get("total", 1)))
        self._progress.update(task, total=total, completed=int(line.get("done", 0)), word=word)


def _list(fleet: Fleet, as_json: bool) -> None:
    with Store(fleet.database) as store:
        known = [rollouts.summarize(record) for record in store.rollouts()]
    if as_json:
        for line in known:
            screen.print_json(line)
        return
    table = screen.table("Rollouts", "no.", "release", "state", "devices", folds=("devices",))
    for line in known:
        summary = ", ".join(f"{count} {state}" for state, count in _counts(line).items())
        table.add_row(str(line["rollout"]), line["release"], line["state"], summary)
    screen.out.print(table if known else "no rollouts yet: `warden rollout RELEASE --type T`")


def _one(fleet: Fleet, number: int, as_json: bool) -> None:
    with Store(fleet.database) as store:
        record, steps = store.rollout(number), store.history(number)
    if as_json:
        targets = [
            target._asdict()
            | {"history": [step._asdict() for step in steps.get(target.device, [])]}
            for target in record.targets
        ]
        screen.print_json(rollouts.summarize(record) | {"targets": targets})
        return
    why = f": {jsontext.printable(record.reason)}" if record.reason else ""
    screen.show(
        f"rollout {number} of {record.release}, number {record.sequence}: {record.state}{why}"
    )
    table = screen.table("Devices", "device", "wave", "state", "since")
    for target in record.targets:
        table.add_row(
            target.device,
            str(target.wave + 1),
            _word(target.state, target.reason),
            screen.ago(target.changed),
        )
    screen.out.print(table)
