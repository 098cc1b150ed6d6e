"""A page of metrics: Prometheus' text format 0.0.4, by the library prometheus-client."""

import threading
import time
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OTHER = "other"  # the label of what is in no list


class Page:
    """Render the metrics that collectors yield.

    collect: yields the metrics of one scrape. more: collectors of the library.
    fresh_s: for so long a page is shown again, so that scrapes in a row cost nothing.
    """

    def __init__(
        self,
        collect: Callable[[], Iterator[Metric]],
        *more: Callable[[CollectorRegistry], object],
        fresh_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Collected(collect))
        for make in more:
            make(self._registry)
        self._fresh_s = fresh_s
        self._clock = clock
        self._guard = threading.Lock()
        self._kept = (float("-inf"), b"")

    def render(self) -> tuple[str, bytes]:
        """Return the type of the text of one scrape, and the text."""
        with self._guard:
            made, text = self._kept
            if self._clock() - made >= self._fresh_s:
                text = generate_latest(self._registry)
                self._kept = (self._clock(), text)
            return TEXT, text


class _Collected(Collector):
    def __init__(self, collect: Callable[[], Iterator[Metric]]) -> None:
        self._collect = collect

    def describe(self) -> list[Metric]:
        """Return no description: the library asks for one when it registers."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics. Called by the library."""
        return self._collect()


def serving(up: bool) -> Metric:
    """Return the metric that each page begins with."""
    family = GaugeMetricFamily("warden_serve_up", "1 while `warden serve` answers")
    family.add_metric((), float(up))
    return family
