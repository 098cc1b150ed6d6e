"""Warden's host side: makes, provisions, commands and watches a fleet.

It never imports device code: it speaks docs/protocol.md through cbor2 and cryptography, so that
each side checks the other.
"""

__version__ = "0.1.0"
