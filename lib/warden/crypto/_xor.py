"""The inner loops of AES-CCM, HMAC and comparisons: native code, or big integers."""

try:
    from ._xor_native import append as append
    from ._xor_native import count as count
    from ._xor_native import frame as frame
    from ._xor_native import unequal as unequal
    from ._xor_native import xor as xor
except (AttributeError, ImportError, SyntaxError, ValueError):
    # No native emitter: CPython, or a port without it (SyntaxError from source, ValueError from a
    # .mpy of another architecture).
    from ._xor_plain import append as append
    from ._xor_plain import count as count
    from ._xor_plain import frame as frame
    from ._xor_plain import unequal as unequal
    from ._xor_plain import xor as xor
