"""What the figures hang on: the machine and the versions."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version

from benchmarks.setting import ROOT
from rdknotify import _rdknotify
from rdknotify.testing.jars import KAFKA_VERSION

PACKAGES = ("confluent-kafka", "aiokafka", "kafka-python", "oslo.messaging", "orjson")


def describe() -> dict[str, object]:
    """As it stands in the results' file under ``setting``."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "revision": _revision(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "load": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "kafka": KAFKA_VERSION,
        "librdkafka": _rdknotify.version(),
        **{name: _version(name) for name in PACKAGES},
    }


def _revision() -> str:
    described = ["git", "describe", "--always", "--dirty"]
    said = subprocess.run(described, cwd=ROOT, capture_output=True, text=True, check=False)
    return said.stdout.strip() or "unknown"


def _processor() -> str:
    with open("/proc/cpuinfo") as lines:
        return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
