"""Nothing that a device refuses goes unseen: each place in lib that catches a refusal raises it
again, records it as an incident, or stands here with its reason."""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

REFUSALS = {"PeerError", "LinkError", "WardenError"}
RECORDING = {"report", "add", "_refuse"}  # Agent.report, Incidents.add, Inbox._refuse
# file: function → why what is caught there is no incident, or where it becomes one.
_BROKE = "the connection broke: what ended it is reported by link_failure.record()"
_LAST = "the device leaves: there is neither time nor a connection"
_ALONE = "without an authority there is nobody to tell"
CAUGHT = {
    "agent/agent.py: _keep_connected": "link_failure.record() reports it",
    "agent/agent.py: _run_timers": _BROKE,
    "agent/agent.py: _report_incidents": _BROKE,
    "agent/agent.py: _flush": _BROKE,
    "agent/delivery.py: publish": _BROKE,
    "agent/delivery.py: run": _BROKE,
    "agent/delivery.py: save_at_end": _LAST,
    "agent/device.py: publish": _BROKE,
    "agent/incident_report.py: save_at_end": _LAST,
    "agent/leaving.py: leave": _LAST,
    "agent/tamper.py: _wipe": "the goodbye of a device that wipes itself",
    "board/app_failures.py: _send": _BROKE,
    "gate/gate.py: _send": _BROKE,
    "net/chain.py: check": "the verifier's code, which ends the hand-shake",
    "net/dial.py: _attempt": "kept until the last address, then raised",
    "net/mqtt.py: disconnect": _LAST,
    "ota/image_verify.py: stage": "ota/service.py reports the update's reason",
    "ota/payload.py: content_key": "one recipient of several; the last one raises",
    "ota/service.py: _send_report": _BROKE,
    "ota/service.py: _fetch": "reported behind the connection's end",
    "provisioning/provision.py: main": "the answer to who provisions it",
    "provisioning/provision.py: self_test": "the answer to who provisions it",
    "rotation/pins_file.py: verify_signature": "one key of several; the last one raises",
    "session/inbox.py: finish": "the session of the command ended: nobody waits for the reply",
    "session/inbox.py: skip": "recorded as mqtt-too-large, without the sender's name",
    "session/incident_log.py: __init__": "raised as vault-damaged below",
    "session/resume.py: load": "of memory that a power cut fills with anything: a new session",
    "standalone.py: publish": _ALONE,
    "standalone.py: run": _ALONE,
    "token/keeper.py: prepare": "new terms: token-failed, or no proof against them",
    "vault/__init__.py: _undo": "what failed before it is raised",
}
TWICE = {"ota/image_verify.py: stage", "token/keeper.py: prepare"}


def _names(kind: ast.expr | None) -> set[str]:
    nodes = ast.walk(kind) if kind is not None else ()
    return {node.id for node in nodes if isinstance(node, ast.Name)}


def _called(node: ast.AST) -> str:
    function = node.func if isinstance(node, ast.Call) else None
    return getattr(function, "attr", getattr(function, "id", ""))


def _is_seen(handler: ast.ExceptHandler) -> bool:
    inside = [node for statement in handler.body for node in ast.walk(statement)]
    return any(isinstance(node, ast.Raise) or _called(node) in RECORDING for node in inside)


def unseen(node: ast.AST, function: str = "") -> Iterator[str]:
    """Yield the function of each handler that neither raises nor records a refusal."""
    for child in ast.iter_child_nodes(node):
        is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
        if isinstance(child, ast.ExceptHandler) and _names(child.type) & REFUSALS:
            if not _is_seen(child):
                yield function
        yield from unseen(child, child.name if is_function else function)


def test_each_refusal_that_a_device_catches_is_an_incident_or_has_its_reason(repo: Path) -> None:
    lib = repo / "lib" / "warden"
    found = Counter(
        f"{path.relative_to(lib).as_posix()}: {function}"
        for path in lib.rglob("*.py")
        for function in unseen(ast.parse(path.read_text()))
    )
    assert found == {name: 2 if name in TWICE else 1 for name in CAUGHT}


def test_a_handler_that_only_logs_is_found() -> None:
    source = "def f():\n try: g()\n except PeerError as e: log(e.code)\n"
    assert list(unseen(ast.parse(source))) == ["f"]
    assert not list(unseen(ast.parse(source.replace("log(e.code)", "report(e.code)"))))
    assert not list(unseen(ast.parse(source.replace("log(e.code)", "raise"))))
