"""The fleet's state, device by device, for Prometheus."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from warden_host.bridge.bridge import Bridge
from warden_host.metrics.page import Page, serving

_BY_DEVICE = ("device", "type")


def metrics_page(bridge: Bridge) -> Page:
    """Return the page of a bridge's view."""

    def collect() -> Iterator[Metric]:
        view = bridge.view
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
        with bridge.guard:
            up = serving(view.connected)
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

    return Page(collect)
