"""The link to the broker: TLS, MQTT, the clock that certificates are checked by, the pauses between attempts.

Entry points: `link.Link`, `mqtt.Client`. Imports errors, crypto and wire alone; who may import it: tests/layers.py.
"""
