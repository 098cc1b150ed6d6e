"""A process killed before any change of the store leaves the old vault or the new one."""

from board_model import DictStore, PowerCut
from harness import check, equal
from vault_kit import Wrong, begin, change, check_after_cut

PURE = True
# Changes of the store that a clean run makes. More is more wear: say why beside a higher number.
OPERATIONS = {"provision": 5, "put new": 2, "replace": 3, "delete": 2, "advance": 1, "batch": 7}


def before(name):
    """The files that the change begins with."""
    if name == "provision":
        return {}
    store = DictStore()
    change("provision", begin("provision", store))
    return store.files


def run(name, files, budget, kind=DictStore):
    """Make the change, cut before change number `budget`; (the store, whether it was finished)."""
    store = kind(files)
    vault = begin(name, store)
    store.log = []
    store.budget = budget
    try:
        change(name, vault)
        finished = True
    except PowerCut:
        finished = False
    store.budget = None
    return store, finished


def cut_everywhere(name, kind=DictStore):
    """What is found after each cut, in order."""
    files = before(name)
    store, _ = run(name, files, None, kind)
    results = []
    for budget in range(len(store.log) + 1):
        store, finished = run(name, files, budget, kind)
        results.append(check_after_cut(name, lambda store=store: store, finished))
    return results


def test_killed_before_every_change():
    for name, operations in OPERATIONS.items():
        results = cut_everywhere(name)
        equal(len(results) - 1, operations, name)
        # One change decides: before it all is old, after it all is new.
        equal(results, sorted(results, reverse=True), name)
        equal((results[0], results[-1]), ("old", "new"), name)


def test_killed_while_healing():
    for name in OPERATIONS:
        files = before(name)
        clean, _ = run(name, files, None)
        for budget in range(len(clean.log)):
            broken, _ = run(name, files, budget)
            for second in range(len(broken.files)):
                store = DictStore(broken.files)
                store.budget = second
                try:
                    begin("" if "commit" in store.files else "provision", store)
                except PowerCut:
                    pass
                store.budget = None
                check(check_after_cut(name, lambda store=store: store, False))


class CommitFirst(DictStore):
    """A vault that commits before the records are there: what these tests must notice."""

    def write(self, name, data):
        if "." in name:
            self.late = getattr(self, "late", {})
            self.late[name] = data
            return
        super().write(name, data)
        for other, data in getattr(self, "late", {}).items():
            super().write(other, data)
        self.late = {}

    def read(self, name, limit):
        late = getattr(self, "late", {})
        return late[name] if name in late else super().read(name, limit)


class CleansFirst(DictStore):
    """Removes the older records before the commit that makes them obsolete."""

    def write(self, name, data):
        if name == "commit":
            newest = {}
            for other in sorted(self.names()):
                record = other.split(".")[0]
                if record in newest:
                    self.remove(newest[record])
                newest[record] = other
        super().write(name, data)


class RemovesFirst(DictStore):
    """Replaces by removing first, as a rename does where it isn't atomic."""

    def write(self, name, data):
        if name in self.files:
            self.remove(name)
        super().write(name, data)


def noticed(kind, name):
    try:
        cut_everywhere(name, kind)
    except Wrong:
        return True
    return False


def test_a_wrong_vault_is_noticed():
    check(noticed(CommitFirst, "put new"))
    check(noticed(CommitFirst, "replace"))
    check(noticed(CleansFirst, "replace"))
    check(noticed(RemovesFirst, "advance"))
    check(not noticed(DictStore, "replace"))
