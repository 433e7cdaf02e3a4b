"""What real Kafka needs to run: a Java, and jars that Maven fetches once or that are in ``KAFKA_HOME``.

``python -m rdknotify.testing`` fetches them ahead of time and says where they are, or what is missing.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

from rdknotify.errors import RdNotifyError
from rdknotify.testing.cache import fetched

__all__ = ["KAFKA_VERSION", "LocalKafkaError", "find_jars", "find_java", "java_version", "run_maven"]

KAFKA_VERSION = "4.3.1"
MINIMUM_JAVA = 17
FETCH_TIMEOUT = 600.0
"""Seconds that Maven may take for 54 MB."""

_ARTIFACTS = (
    ("org.apache.kafka", "kafka_2.13", KAFKA_VERSION),
    ("org.apache.kafka", "kafka-tools", KAFKA_VERSION),
    # Kafka's own jars bring log4j but nothing that leads slf4j to it: without this a broker fails in silence.
    ("org.apache.logging.log4j", "log4j-slf4j-impl", "2.25.4"),
)
_COPY_DEPENDENCIES = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"


class LocalKafkaError(RdNotifyError):
    """A real broker cannot be had, or did not do what was asked; the text says what to do or to look at."""


def find_java() -> str:
    """The ``java`` of ``JAVA_HOME`` or ``PATH``. Raises :class:`LocalKafkaError` when missing or too old."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=f"{home}/bin" if home else None)
    install = f"install Java {MINIMUM_JAVA} or later (Debian: apt install openjdk-{MINIMUM_JAVA}-jre-headless)"
    if java is None:
        raise LocalKafkaError(f"Java is missing{f' in JAVA_HOME={home}' if home else ''}: {install}")
    version = java_version(java)
    if version < MINIMUM_JAVA:
        raise LocalKafkaError(f"{java} is Java {version}, Kafka {KAFKA_VERSION} needs {MINIMUM_JAVA}: {install}")
    return java


def java_version(java: str) -> int:
    """The feature release of a ``java``, as 17."""
    try:
        told = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30).stderr
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LocalKafkaError(f"{java} does not run: {error}") from None
    found = re.search(r'version "(?:1\.)?(\d+)', told)
    if not found:
        raise LocalKafkaError(f"{java} -version says no version: {told.strip()[:200]!r}")
    return int(found[1])


def find_jars() -> Path:
    """The folder with Kafka's jars: ``KAFKA_HOME``'s, the cache's, or fetched into it now (about 10 s).

    Several processes may call it at once. Raises :class:`LocalKafkaError`: one line that says what to do.
    """
    home = os.environ.get("KAFKA_HOME")
    if home:
        libs = Path(home, "libs")
        if not any(libs.glob("kafka_*.jar")):
            raise LocalKafkaError(f"KAFKA_HOME={home} has no Kafka: {libs} contains no kafka_*.jar")
        return libs
    name = f"kafka-{KAFKA_VERSION}-{hashlib.sha256(_pom().encode()).hexdigest()[:8]}"
    return fetched(name, _fetch, "Kafka's jars", LocalKafkaError)


def _fetch(work: Path) -> Path:
    (work / "pom.xml").write_text(_pom())
    arguments = ["-f", "pom.xml", _COPY_DEPENDENCIES, "-DincludeScope=runtime", "-DoutputDirectory=jars"]
    run_maven(arguments, work, f"Kafka {KAFKA_VERSION}", ", or set KAFKA_HOME to an unpacked Apache Kafka")
    return work / "jars"


def run_maven(arguments: list[str], work: Path, what: str, otherwise: str = "") -> None:
    """Run Maven in the folder ``work``; it verifies the checksums of what it fetches.

    Raises :class:`LocalKafkaError` where ``what`` cannot be had: one line that says what to do, ``otherwise`` included.
    """
    mvn = shutil.which("mvn")
    if mvn is None:
        raise LocalKafkaError(
            f"Maven is missing, which fetches the jars of {what}: install it (Debian: apt install maven){otherwise}"
        )
    command = [mvn, "-q", "-B", "-C", *arguments]
    try:
        done = subprocess.run(
            command, cwd=work, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=FETCH_TIMEOUT
        )
    except subprocess.TimeoutExpired:
        raise LocalKafkaError(f"Maven fetched no {what} within {FETCH_TIMEOUT:.0f} s") from None
    if "No space left on device" in done.stdout + done.stderr:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if done.returncode != 0:
        raise LocalKafkaError(f"Maven could not fetch {what}: {_reason(done.stdout + done.stderr)}")


def _reason(output: str) -> str:
    """Maven's first error says what failed; its last ones only where to read about it."""
    lines = [re.sub(r"\x1b\[[\d;]*m", "", line).strip() for line in output.splitlines()]
    errors = [re.sub(r"^\[ERROR\]| -> \[Help \d+\]$", "", line).strip() for line in lines if line.startswith("[ERROR]")]
    return next((line for line in [*errors, *reversed(lines)] if line), "it said nothing")


def _pom() -> str:
    dependencies = "".join(
        f"<dependency><groupId>{group}</groupId><artifactId>{name}</artifactId><version>{version}</version></dependency>"
        for group, name, version in _ARTIFACTS
    )
    return (
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>rdknotify</groupId><artifactId>kafka-jars</artifactId><version>1</version>"
        f"<packaging>pom</packaging><dependencies>{dependencies}</dependencies></project>\n"
    )
