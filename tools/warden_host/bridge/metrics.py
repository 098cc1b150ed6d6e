"""The fleet's state for Prometheus: a collector of the library prometheus-client."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from warden_host.bridge.bridge import Bridge

_BY_DEVICE = ("device", "type")


class Metrics:
    """Render a bridge's view."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def render(self) -> bytes:
        """Return the text of one scrape, Prometheus' text format 0.0.4."""
        text: bytes = generate_latest(self._registry)
        return text

    def describe(self) -> list[Metric]:
        """Return no description: the library asks for one when it registers."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics. Called by the library."""
        view = self._bridge.view
        online = GaugeMetricFamily("warden_device_online", "1 with a session", labels=_BY_DEVICE)
        quarantined = GaugeMetricFamily(
            "warden_device_quarantined", "1 until an operator clears it", labels=_BY_DEVICE
        )
        seen = GaugeMetricFamily(
            "warden_device_last_event_seconds", "Unix time of the last event", labels=_BY_DEVICE
        )
        events = CounterMetricFamily(
            "warden_device_events", "Events since the bridge started", labels=_BY_DEVICE
        )
        incidents = CounterMetricFamily(
            "warden_device_incidents", "Reports of refusals since the start", labels=_BY_DEVICE
        )
        values = GaugeMetricFamily(
            "warden_telemetry", "The latest value of each name", labels=(*_BY_DEVICE, "name")
        )
        with self._bridge.guard:
            up = GaugeMetricFamily("warden_serve_up", "1 while `warden serve` answers")
            up.add_metric((), float(view.connected))
            for name, device in view.devices.items():
                labels = (name, device.type)
                online.add_metric(labels, float(device.online))
                quarantined.add_metric(labels, float(device.quarantined))
                events.add_metric(labels, device.events)
                incidents.add_metric(labels, device.incidents)
                if device.seen:
                    seen.add_metric(labels, device.seen)
                for key, value in device.values.items():
                    if not isinstance(value, str):
                        values.add_metric((*labels, key), float(value))
        yield from (up, online, quarantined, seen, events, incidents, values)
