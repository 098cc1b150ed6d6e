"""Run the checks of an area, and say what they found and what is fine."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from warden_host.boards import ports
from warden_host.boards.connection import Board
from warden_host.doctor import board_checks, broker_checks, device_checks, fleet_checks
from warden_host.doctor.backup_checks import BackupFacts
from warden_host.doctor.broker_checks import BrokerFacts
from warden_host.doctor.facts import DeviceFacts, FleetFacts
from warden_host.doctor.registry import CHECKS, Finding, Grade, merged, run
from warden_host.store.store import Device

__all__ = ("Report", "backup_report", "board_report", "device_report", "fleet_report")
_AREAS = (fleet_checks, broker_checks, device_checks, board_checks)  # they register their checks


@dataclass
class Report:
    """findings: what is weak. fine: names of the checks that found nothing."""

    findings: list[Finding] = field(default_factory=list)
    fine: list[str] = field(default_factory=list)

    @property
    def serious(self) -> int:
        return sum(one.grade is Grade.SERIOUS for one in self.findings)

    def __add__(self, other: "Report") -> "Report":
        return Report(merged([*self.findings, *other.findings]), self.fine + other.fine)


def _look(area: str, every: Iterable[tuple[Any, tuple[str, ...]]]) -> Report:
    """Run the checks of an area. every: (facts, the devices that they are about)."""
    rows, report = list(every), Report()
    for one in CHECKS[area]:
        found = [
            replace(finding, devices=devices)
            for facts, devices in rows
            for finding in run(one, facts)
        ]
        report.findings += found
        if not found and rows:
            report.fine.append(one.name)
    return Report(merged(report.findings), report.fine)


def fleet_report(facts: FleetFacts) -> Report:
    """Look at a fleet: its folder, its broker, and each device that may connect."""
    broker = BrokerFacts(facts.fleet, facts.live.serving, facts.store.policies())
    report = _look("fleet", [(facts, ())]) + _look("broker", [(broker, ())])
    return report + _devices(facts, facts.devices)


def device_report(facts: FleetFacts, device: str) -> Report:
    """Look at one device. Raises device-unknown."""
    return _devices(facts, [facts.store.device(device)])


def _devices(facts: FleetFacts, devices: list[Device]) -> Report:
    return _look("device", [(DeviceFacts(facts, one), (one.device,)) for one in devices])


def backup_report(facts: BackupFacts) -> Report:
    """Look at a backup."""
    return _look("backup", [(facts, ())])


def board_report(port: str, device: str) -> Report:
    """Look at the board at a serial port. device: that it is, or "".

    Raises: port-unknown, board-lost, board-silent, board-failed.
    """
    with Board(ports.choose(port)) as board:
        facts = board_checks.ask(board)
    return _look("board", [(facts, (device,) if device else ())])
