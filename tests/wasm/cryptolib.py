"""Stands in for MicroPython's `cryptolib`, which the WebAssembly port lacks, on top of Node's: ECB
(1) and CBC (2), one direction an object."""

import host


class aes:  # noqa: N801  (MicroPython's name)
    def __init__(self, key, mode, iv=None):
        if len(key) not in (16, 32) or mode not in (1, 2):
            raise ValueError
        self._made = mode, bytes(key).hex(), bytes(iv or b"").hex()
        self._way = self._cipher = None

    def _process(self, way, data, out):
        if self._way not in (None, way):
            raise ValueError("can't encrypt & decrypt")
        if self._way is None:
            self._way = way
            self._cipher = host.cipher(way, *self._made)
        if len(data) % 16:
            raise ValueError("blksize % 16")
        result = bytes.fromhex(host.update(self._cipher, bytes(data).hex()))
        if out is None:
            return result
        memoryview(out)[: len(result)] = result
        return out

    def encrypt(self, data, out=None):
        return self._process(True, data, out)

    def decrypt(self, data, out=None):
        return self._process(False, data, out)
