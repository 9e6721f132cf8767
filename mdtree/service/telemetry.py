"""What a service tells Prometheus: requests by route, uploads, jobs by state, workers.

No label holds a client's text: there are as many series as routes, however many jobs and clients there are.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram, Info
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from mdtree import __version__
from mdtree.service.jobs import State
from mdtree.service.storage.store import Store

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0)


class Workers(Protocol):
    """What is asked of the supervisor of the workers."""

    def alive(self) -> int:
        """How many run."""

    @property
    def restarts(self) -> int:
        """How many were started in place of dead ones."""

    @property
    def crashes(self) -> int:
        """How often a job ended its own process."""


class Telemetry:
    """The metrics of one service, in a registry of their own.

    Attributes
    ----------
    registry : CollectorRegistry
    upload_bytes : Counter
        Bytes of uploads that were received, whole or not.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.upload_bytes = Counter(
            "mdtree_upload_bytes", "Bytes of uploads received, whole or not.", registry=self.registry
        )
        self._requests = Counter(
            "mdtree_requests", "Requests answered.", ["method", "route", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "mdtree_request_seconds",
            "From the head of a request to the end of its answer.",
            ["method", "route"],
            registry=self.registry,
            buckets=_SECONDS,
        )
        self._refused = Counter(
            "mdtree_refused_connections", "Connections ended by a limit.", ["reason"], registry=self.registry
        )
        Info("mdtree", "The version that runs.", registry=self.registry).info({"version": __version__})
        ProcessCollector(registry=self.registry)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answered request; `route` is a template, not a path."""
        known = method if method in _METHODS else "other"
        self._requests.labels(known, route, str(status)).inc()
        self._seconds.labels(known, route).observe(seconds)

    def refused_connection(self, reason: str) -> None:
        """Count a connection that a limit ended (see `mdtree.service.guarding.http_protocol`)."""
        self._refused.labels(reason).inc()

    def watch(self, store: Store, workers: Workers, data_dir: Path) -> None:
        """From now on tell of jobs, stored bytes, free disk and workers, read when they are asked for."""
        self.registry.register(_State(store, workers, data_dir))

    def text(self) -> bytes:
        """All of it in the text format of Prometheus."""
        return generate_latest(self.registry)


class _State(Collector):
    """What the database and the supervisor know at the moment."""

    def __init__(self, store: Store, workers: Workers, data_dir: Path) -> None:
        self._store, self._workers, self._data_dir = store, workers, data_dir

    def describe(self) -> list[Metric]:
        return []  # asked when registered; without it the database would be read then

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("mdtree_database_up", "Whether the database answers.")
        try:
            jobs, stored = self._store.counts(), self._store.stored_bytes()
        except Exception:
            # a database that is down must not take the other metrics with it
            logging.getLogger("mdtree.service").exception("the database does not answer")
            up.add_metric([], 0)
        else:
            up.add_metric([], 1)
            by_state = GaugeMetricFamily("mdtree_jobs", "Jobs that are kept.", labels=["state"])
            for state in State:
                by_state.add_metric([state.value], jobs.get(state, 0))
            yield by_state
            yield GaugeMetricFamily("mdtree_stored_bytes", "Bytes of uploads that are kept.", value=stored)
        yield up
        free = shutil.disk_usage(self._data_dir).free
        yield GaugeMetricFamily("mdtree_disk_free_bytes", "Free space where the data lie.", value=free)
        yield GaugeMetricFamily("mdtree_workers", "Workers that run.", value=self._workers.alive())
        restarts, crashes = self._workers.restarts, self._workers.crashes
        yield CounterMetricFamily("mdtree_worker_restarts", "Workers started in place of dead ones.", value=restarts)
        yield CounterMetricFamily("mdtree_job_crashes", "Jobs that ended their own process.", value=crashes)
