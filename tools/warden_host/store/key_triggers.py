"""SQLite's triggers that note what an exported application has yet to learn (exports.py).

An entry of an application's file depends on several tables, which several processes change. As
triggers, no change is missed, and each is noted in the transaction that makes it.
"""

_NOTE = "INSERT OR REPLACE INTO key_changes SELECT appid, {device} FROM app_lists WHERE {which};"
_OF_PAIR = _NOTE.format(device="{row}.device", which="appid = {row}.appid")
_OF_DEVICE = _NOTE.format(
    device="{row}.device", which="appid IN (SELECT appid FROM pairs WHERE device = {row}.device)"
)
_OF_APP = _NOTE.format(device="''", which="appid = {row}.appid")
# A backup that is done lets rotations go on that waited for it.
_OF_BACKUP = (
    "INSERT OR REPLACE INTO key_changes SELECT app_lists.appid, rotations.device "
    "FROM rotations JOIN pairs USING (device) JOIN app_lists USING (appid) "
    "WHERE rotations.body IS NOT NULL;"
)
_BACKUP = "{row}.name = 'backups' OR {row}.name GLOB 'waits for backup:*'"
_ALL = ("INSERT", "UPDATE", "DELETE")


def _trigger(table: str, event: str, note: str, condition: str = "") -> str:
    """event: INSERT, DELETE, or UPDATE with or without columns."""
    kind, row = event.split()[0], "OLD" if event == "DELETE" else "NEW"
    when = f"WHEN {condition.format(row=row)} " if condition else ""
    return (
        f"CREATE TRIGGER note_{table}_{kind.lower()} AFTER {event} ON {table} "
        f"{when}BEGIN {note.format(row=row)} END;\n"
    )


SCRIPTS = (
    *(_trigger("pairs", event, _OF_PAIR) for event in ("INSERT", "DELETE")),
    _trigger("pairs", "UPDATE OF k, uid, commands", _OF_PAIR),
    _trigger("devices", "UPDATE OF type, mode, policy", _OF_DEVICE),
    *(
        _trigger(table, event, _OF_DEVICE)
        for table in ("endings", "policy_changes", "rotations")
        for event in _ALL
    ),
    *(_trigger("settings", event, _OF_BACKUP, _BACKUP) for event in _ALL),
    _trigger("apps", "UPDATE OF types, commands", _OF_APP),
)
