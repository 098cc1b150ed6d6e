"""Stands in for MicroPython's `cryptolib` on top of `cryptography`: ECB (1) and CBC (2), 16- and
32-byte keys, in place allowed, one direction an object, the CBC chain kept from call to call."""

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes


class aes:  # noqa: N801  (MicroPython's name)
    def __init__(self, key, mode, iv=None):
        if len(key) not in (16, 32) or mode not in (1, 2):
            raise ValueError
        wanted = modes.ECB() if mode == 1 else modes.CBC(bytes(iv))
        self._cipher = Cipher(algorithms.AES(bytes(key)), wanted)
        self._run = None
        self._way = None

    def _process(self, way, data, out):
        if self._way not in (None, way):
            raise ValueError("can't encrypt & decrypt")
        if self._way is None:
            self._way = way
            self._run = self._cipher.encryptor() if way == 1 else self._cipher.decryptor()
        if len(data) % 16:
            raise ValueError("blksize % 16")
        result = self._run.update(bytes(data))
        if out is None:
            return result
        memoryview(out)[: len(result)] = result
        return out

    def encrypt(self, data, out=None):
        return self._process(1, data, out)

    def decrypt(self, data, out=None):
        return self._process(2, data, out)
