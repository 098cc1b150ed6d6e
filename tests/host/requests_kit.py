"""Requests of the control socket, and the authority as far as they are concerned."""

from warden_host.engine.device_state import DeviceState
from warden_host.service.control import Caller


class Authority:
    """The authority as far as requests are concerned. given: the requests that reached it."""

    def __init__(self, store):
        self.store = store
        self.given = []

    def state(self, device):
        return DeviceState(self.store.device(device))

    def ask(self, question):
        return question(self)

    def submit(self, request, done):
        self.given.append(request)


def send(handler, **fields):
    line = {"op": "send", "device": "D1", "command": "get_relay"} | fields
    handler.handle(line, Caller())
    return handler.authority.given.pop()
