"""The page of metrics of a served fleet: `warden serve` shows it where it is asked to.

No label holds what a device or a stranger chose: types are the fleet's, states and codes come from
lists of this program. Values are counts, sizes and times, so a page holds no secret.
"""

import functools
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from prometheus_client import ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from warden_host import __version__
from warden_host.engine.engine import Engine
from warden_host.errors import HostError
from warden_host.fleet import client_pki, pki
from warden_host.fleet.fleet import Fleet
from warden_host.metrics.page import OTHER, Page, serving
from warden_host.rollout import plan
from warden_host.service.run import Service
from warden_host.service.tally import BUCKETS
from warden_host.store.store import Store

FRESH_S = 1.0
_ASK_S = 5.0
_PRESENCES = ("online", "asleep", "stopped", "away")
_ROLLOUTS = frozenset(("active", "done", "stopped"))


class _Now(NamedTuple):
    """What the engine knows. devices: (type, presence) → how many."""

    devices: dict[tuple[str, str], int]
    sessions: int
    quarantined: int
    development: int


def metrics_page(fleet: Fleet, service: Service) -> Page:
    """Return the page of a fleet that is served."""
    return Page(
        functools.partial(_collect, fleet, service),
        lambda registry: ProcessCollector(registry=registry),
        lambda registry: ProcessCollector(
            namespace="warden_broker", pid=lambda: service.broker.pid, registry=registry
        ),
        fresh_s=FRESH_S,
    )


def _collect(fleet: Fleet, service: Service) -> Iterator[Metric]:
    try:
        now = service.authority.ask(_ask, _ASK_S)
    except HostError:  # too busy for a look
        now = None
    yield serving(now is not None)
    yield _one("warden_build_info", "The version that runs", 1.0, version=__version__)
    if now is not None:
        yield from _of_devices(now)
    yield from _of_messages(service)
    yield from _of_commands(service)
    yield from _of_files(fleet)
    with Store(fleet.database, read_only=True) as store:
        yield from _of_store(store)


def _ask(engine: Engine) -> _Now:
    presences, states = engine.presences(), Counter[tuple[str, str]]()
    quarantined = 0
    for name, type_, reason in engine.store.device_types():
        states[type_, presences.get(name, ("", 0.0))[0] or "unknown"] += 1
        quarantined += bool(reason)
    online = engine.online()
    development = sum(engine.state(name).development for name in online)
    return _Now(dict(states), sum(map(len, online.values())), quarantined, development)


def _of_devices(now: _Now) -> Iterator[Metric]:
    devices = GaugeMetricFamily(
        "warden_devices", "Devices by type and presence", labels=("type", "presence")
    )
    for type_ in sorted({type_ for type_, _ in now.devices}):
        for presence in (*_PRESENCES, "unknown"):
            devices.add_metric((type_, presence), now.devices.get((type_, presence), 0))
    yield devices
    yield _one("warden_sessions", "Sessions that are up", now.sessions)
    yield _one("warden_devices_quarantined", "Devices in quarantine", now.quarantined)
    yield _one("warden_devices_development", "Devices whose console is open", now.development)


def _of_messages(service: Service) -> Iterator[Metric]:
    load, counts = service.authority.load, service.tally.counts()
    yield _one("warden_queue_tasks", "Tasks that wait for the engine", load.tasks)
    yield _one("warden_queue_messages", "Messages that wait for the engine", load.waiting)
    yield _one("warden_queue_bytes", "Bytes of the messages that wait", load.bytes)
    messages = CounterMetricFamily(
        "warden_messages", "Messages of devices, by what their quota said", labels=("quota",)
    )
    messages.add_metric(("accepted",), load.accepted)
    messages.add_metric(("refused",), load.refused)
    yield messages
    yield _counter("warden_events", "What happened, by kind", "kind", counts.events)
    yield _counter("warden_refusals", "Messages refused here", "code", counts.refusals)
    yield _counter("warden_incidents", "Reports of refusals by devices", "code", counts.incidents)
    yield _counter("warden_notices", "Notices about the authority", "code", counts.notices)
    logins = CounterMetricFamily("warden_logins_refused", "Log-ins that the broker refused")
    logins.add_metric((), counts.logins_refused)
    yield logins


def _of_commands(service: Service) -> Iterator[Metric]:
    counts = service.tally.counts()
    results = dict.fromkeys(("ok", "refused", "unanswered"), 0) | counts.commands
    yield _counter("warden_commands", "Commands by their result", "result", results)
    seconds = HistogramMetricFamily(
        "warden_command_seconds", "From a command's publication to its reply"
    )
    bounds = [*map(str, BUCKETS), "+Inf"]
    seconds.add_metric((), list(zip(bounds, counts.buckets, strict=True)), counts.seconds)
    yield seconds


def _of_files(fleet: Fleet) -> Iterator[Metric]:
    sizes = GaugeMetricFamily("warden_store_bytes", "Size of the database", labels=("file",))
    for label, suffix in (("database", ""), ("log", "-wal")):
        path = fleet.database.with_name(fleet.database.name + suffix)
        sizes.add_metric((label,), path.stat().st_size if path.exists() else 0)
    yield sizes
    free = shutil.disk_usage(fleet.root).free
    yield _one("warden_disk_free_bytes", "Room on the fleet's disk", free)
    ends = GaugeMetricFamily(
        "warden_certificate_end_seconds", "Unix time of its end", labels=("certificate",)
    )
    for label in ("ca", "server", client_pki.ROOT, client_pki.ISSUER):
        path = fleet.keys / f"{label}.crt"
        if path.exists():
            end = pki.load_certificate(path).not_valid_after_utc
            ends.add_metric((label,), end.timestamp())
    if client_pki.exists(fleet):
        ends.add_metric(("revocation-list",), client_pki.crl_ends(fleet).timestamp())
    yield ends


def _of_store(store: Store) -> Iterator[Metric]:
    yield _gauge(
        "warden_rollouts",
        "Rollouts by state",
        "state",
        _bounded(store.rollout_counts(), _ROLLOUTS),
    )
    targets = _bounded(store.target_counts(), frozenset(plan.STATES))
    yield _gauge("warden_rollout_devices", "Devices of active rollouts", "state", targets)
    yield _gauge("warden_bans", "Bans in force", "kind", store.ban_counts(time.time()))
    first = store.first_certificate_end()
    if first is not None:
        yield _one("warden_device_certificate_first_end_seconds", "The first to end", first)
    yield _one("warden_backup_seconds", "Unix time of the last backup", store.backup_state().made)
    waiting = len(store.waiting_for_backup())
    yield _one("warden_rotations_waiting", "Rotations that wait for a backup", waiting)


def _bounded(counts: dict[str, int], known: frozenset[str]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for name, count in counts.items():
        found[name if name in known else OTHER] += count
    return dict(found)


def _one(name: str, about: str, value: float, **labels: str) -> Metric:
    family = GaugeMetricFamily(name, about, labels=tuple(labels))
    family.add_metric(tuple(labels.values()), value)
    return family


def _gauge(name: str, about: str, label: str, values: dict[str, int]) -> Metric:
    family = GaugeMetricFamily(name, about, labels=(label,))
    for key, value in values.items():
        family.add_metric((key,), value)
    return family


def _counter(name: str, about: str, label: str, values: dict[str, int]) -> Metric:
    family = CounterMetricFamily(name, about, labels=(label,))
    for key, value in values.items():
        family.add_metric((key,), value)
    return family
