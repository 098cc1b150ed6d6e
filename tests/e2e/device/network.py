"""The module `network` of a simulated board: a station, and the air that /fuses/air lists.

Each line of the file is the SSID of an access point, a tab, and its password.
"""

STA_IF = 0


class WLAN:
    def __init__(self, interface):
        self._joined = None

    def active(self, on):
        if not on:
            self._joined = None

    def config(self, **settings):
        raise ValueError("unknown config param")

    def connect(self, ssid, key):
        print("joins", ssid)
        self._joined = ssid, key or b""

    def disconnect(self):
        self._joined = None

    def isconnected(self):
        return self._joined is not None and self._joined in self._air()

    def status(self):
        if self._joined is None:
            return 0
        return 3 if self.isconnected() else -2

    @staticmethod
    def _air():
        with open("/fuses/air", "rb") as file:
            lines = [line.rstrip(b"\n").split(b"\t") for line in file]
        return [(ssid.decode(), key) for ssid, key in lines]
