"""The link to the broker: TLS, MQTT, the clock for certificates, the pauses between attempts.

Entry points: `link.Link`, `mqtt.Client`. Imports errors, crypto and wire alone; tests/layers.py
says who may import it.
"""
