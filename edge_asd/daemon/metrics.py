"""A report of the daemon in, Prometheus's text out."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
    StateSetMetricFamily,
)
from prometheus_client.registry import Collector

from edge_asd.counters import COUNTERS
from edge_asd.daemon.report import Report
from edge_asd.types import MachineState

_PREFIX = "edge_asd_"


def metrics_text(report: Report) -> bytes:
    """All that Prometheus may know, in its text format; counters end in _total, units end the names."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(report))
    return generate_latest(registry)


class _Collector(Collector):
    """A report as prometheus_client wants it."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def collect(self) -> Iterator[Metric]:
        yield from _device(self._report)
        yield from _machines(self._report)
        yield from _counters(self._report)


def _device(report: Report) -> Iterator[Metric]:
    info = InfoMetricFamily(f"{_PREFIX}build", "What runs here.")
    info.add_metric(
        [],
        {
            "version": report.version,
            "site": report.site,
            "device": report.device,
            "engine": report.engine,
            "model": report.model.name,
            "model_version": report.model.version,
            "model_sha256": report.model.sha256,
        },
    )
    yield info
    yield _gauge("uptime_seconds", "Time since the daemon started.", report.uptime_s)
    yield _gauge("troubles", "What is wrong with the device now, by count; edge-asd status names it.",
                 len(report.troubles))  # fmt: skip
    yield _gauge("broker_connected", "1 while the MQTT broker is connected.", report.broker.connected)
    yield _gauge("spool_messages", "Messages that wait for the broker.", report.spool.messages)
    yield _gauge("spool_bytes", "Size of the messages that wait for the broker.", report.spool.spool_bytes)
    yield _gauge("spool_max_bytes", "Bound of spool_bytes.", report.spool.max_bytes)
    yield _gauge("clock_synced", "1 while the kernel says that UTC is synchronised.", report.clock.synced)
    if report.clock.max_error_ms is not None:
        yield _gauge("clock_max_error_seconds", "The kernel's bound on the error of UTC.",
                     report.clock.max_error_ms / 1000)  # fmt: skip


def _machines(report: Report) -> Iterator[Metric]:
    states = StateSetMetricFamily(f"{_PREFIX}machine_state", "1 for the state that the machine is in.",
                                  labels=["machine"])  # fmt: skip
    score = _per_machine("score", "Latest anomaly score; higher is more anomalous.")
    threshold = _per_machine("score_threshold", "Scores from here on are anomalous.")
    latency = _per_machine("score_latency_seconds", "From the latest window to its score.")
    age = _per_machine("score_age_seconds", "Time since the latest score.")
    for machine in report.machines:
        states.add_metric([machine.name], {state.value: state.value == machine.state for state in MachineState})
        if machine.score is not None and machine.threshold is not None:
            score.add_metric([machine.name], machine.score)
            threshold.add_metric([machine.name], machine.threshold)
        if machine.latency_ms is not None and machine.scored_monotonic_s is not None:
            latency.add_metric([machine.name], machine.latency_ms / 1000)
            age.add_metric([machine.name], report.monotonic_s - machine.scored_monotonic_s)
    yield from (states, score, threshold, latency, age)


def _counters(report: Report) -> Iterator[Metric]:
    for name, kind in COUNTERS.items():
        family = CounterMetricFamily(_PREFIX + name, kind.what, labels=["machine"] if kind.per_machine else [])
        for count in report.counts:
            if count.name == name:
                family.add_metric([] if count.machine is None else [count.machine], count.value)
        yield family


def _gauge(name: str, what: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(_PREFIX + name, what, value=float(value))


def _per_machine(name: str, what: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(_PREFIX + name, what, labels=["machine"])
