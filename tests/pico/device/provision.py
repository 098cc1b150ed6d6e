"""Provision the board over the REPL.

It uses the package, so that the build renames its calls too.
"""

import io

from warden.provisioning.provision import provision


def install(bundle):
    """Install a bundle, in hex: its bytes may hold Ctrl-C."""
    data = bytes.fromhex(bundle)
    provision(io.BytesIO(len(data).to_bytes(4, "big") + data))
