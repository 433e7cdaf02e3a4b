"""What users quote: Kafka's own ``kafka-producer-perf-test`` and ``kafka-consumer-perf-test``, in a JVM of their own.

The tools print rates. CPU and memory are the JVM's from its start to its end: what the JVM needs to start and to
compile is part of the CPU of each record, warm-up or not, and weighs more the fewer there are.
"""

from __future__ import annotations

import re
import resource
import subprocess
import tempfile

from benchmarks.clients.base import Figures, Job, roles, tell
from benchmarks.setting import BATCH_BYTES, FETCH_BYTES, IN_FLIGHT, LINGER_MS, RUN_TIMEOUT
from rdknotify.testing.jars import find_jars, find_java

OPTIONS = ("-server", "-Xmx512m", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35")
"""As in Kafka's scripts for the two."""
WARMING_SHARE = 0.2
"""Of its records: sent before those that count."""


def _run(tool: str, *words: object) -> str:
    """What the tool printed. The JVM ends before the harness would kill this process and leave it alone."""
    command = [find_java(), *OPTIONS, "-Duser.language=en", "-cp", f"{find_jars()}/*", f"org.apache.kafka.tools.{tool}"]
    ran = subprocess.run(
        [*command, *map(str, words)], capture_output=True, text=True, timeout=RUN_TIMEOUT - 10, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def _tell(job: Job, rate: float, warming: int) -> None:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    figures: Figures = {"records": job.records, "warming": warming, "seconds": job.records / rate}
    figures["cpu"] = (used.ru_utime + used.ru_stime) * job.records / (job.records + warming)
    figures["peak"] = used.ru_maxrss * 1024
    tell(figures)


def produce(job: Job) -> None:
    """Its rate after the first records, when the JVM has compiled."""
    settings = {
        "acks": "all",
        "enable.idempotence": "true",
        "linger.ms": LINGER_MS,
        "batch.size": BATCH_BYTES,
        "buffer.memory": IN_FLIGHT * job.size,
        "compression.type": job.compression,
    }
    warming = int(job.records * WARMING_SHARE)
    with tempfile.NamedTemporaryFile() as payload:  # the others' value: its own is of random letters
        payload.write(job.value)
        payload.flush()
        said = _run(
            "ProducerPerformance",
            *("--bootstrap-server", job.brokers, "--topic", job.topic, "--throughput", -1),
            *("--num-records", job.records + warming, "--warmup-records", warming, "--payload-file", payload.name),
            *("--command-property", *(f"{name}={value}" for name, value in settings.items())),
        )
    acknowledged = re.search(r"^(\d+) records sent, .*99\.9th", said, re.MULTILINE)
    steady = re.search(r"^(\d+) steady state records sent, ([\d.]+) records/sec.*99\.9th", said, re.MULTILINE)
    assert acknowledged and int(acknowledged[1]) == job.records + warming, said
    assert steady and int(steady[1]) == job.records, said
    _tell(job, float(steady[2]), warming)


def consume(job: Job) -> None:
    """Its rate from when it has partitions. It has no warm-up: what it compiles on the way is in the rate."""
    said = _run(
        "ConsumerPerformance",
        *("--bootstrap-server", job.brokers, "--topic", job.topic, "--group", job.group),
        *("--num-records", job.records, "--fetch-size", FETCH_BYTES),
        *("--command-property", f"max.poll.records={job.batch}", "--command-property", "enable.auto.commit=false"),
    )
    names, values = (line.split(", ") for line in said.splitlines()[-2:])
    figures = dict(zip(names, values, strict=True))
    assert int(figures["data.consumed.in.nMsg"]) >= job.records, said
    _tell(job, float(figures["fetch.nMsg.sec"]), 0)


ROLES = roles(produce={"java perf-test": produce}, consume={"java perf-test": consume})
