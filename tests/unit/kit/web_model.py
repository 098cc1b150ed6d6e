"""A web server behind a Link: it answers each request with bytes, as far as a test lets it."""

from warden.errors import LinkError


class Web:
    """answer(request) returns the bytes of the answer. dribble: most bytes of one read.

    places: (host, port) of each connection; requests: their bytes.
    """

    def __init__(self, answer, dribble=100000):
        self.answer = answer
        self.dribble = dribble
        self.places = []
        self.requests = []
        self.out = b""
        self.open = False

    async def connect(self, host, port, first, deadline_ms):
        self.places.append((host, port))
        self.requests.append(bytes(first))
        self.out = self.answer(bytes(first))
        self.open = True

    def receive_into(self, view):
        if not self.open:
            raise LinkError("link-closed")
        if not self.out:
            return None
        count = min(len(view), len(self.out), self.dribble)
        view[:count] = self.out[:count]
        self.out = self.out[count:]
        return count

    async def wait_readable(self, wait_ms):
        if not self.out:
            raise LinkError("link-closed")
        return True

    def close(self):
        self.open = False
