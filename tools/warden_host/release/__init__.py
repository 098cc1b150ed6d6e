"""Releases: signing keys, images, and SUIT manifests (draft-ietf-suit-manifest-37).

Entry points: release.make writes one, inspect.verify checks it, opened.open_release serves it.
May import: fleet, protocol, store.
"""
