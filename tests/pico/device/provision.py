"""Provision the board over the REPL.

It uses the package, so that the build renames its calls too.
"""

import io

from warden.provisioning.provision import provision


def install(bundle):
    """Install the bytes of a bundle."""
    provision(io.BytesIO(len(bundle).to_bytes(4, "big") + bundle))
