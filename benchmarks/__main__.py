"""``python -m benchmarks``: rdknotify beside the C limit and confluent-kafka, on a real broker, in alternating runs.

Every client has the same settings, payload, batch size and topics and runs in a process of its own. A produce run that
leaves other than the sent number of records on the log, or a consume run that ends short, is an error, not a figure.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import uuid
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

import click

from rdknotify import Producer
from rdknotify.testing import LocalKafka, RunningKafka

ROOT = Path(__file__).parent.parent
BUILD = ROOT / "build" / "benchmarks"
PARTITIONS = 4
PRODUCING = {
    "acks": "all",
    "enable.idempotence": "true",
    "linger.ms": "5",
    "queue.buffering.max.messages": "100000",
}
CONSUMING = {
    "auto.offset.reset": "earliest",
    "enable.auto.commit": "false",
    "fetch.queue.backoff.ms": "10",
    "queued.max.messages.kbytes": "65536",
}
LIMIT = "limit in C"
PRODUCERS = (LIMIT, "rdknotify", "confluent produce_batch", "confluent produce")
CONSUMERS = (LIMIT, "rdknotify", "confluent consume")
Figures = dict[str, list[dict[str, float]]]


def build_limit() -> Path:
    """Compile ``limit.c`` against the static librdkafka that the extension links."""
    BUILD.mkdir(parents=True, exist_ok=True)
    program = BUILD / "limit"
    prefix = Path(_output([sys.executable, str(ROOT / "vendor" / "build.py")]).strip().splitlines()[-1])
    info = json.loads((prefix / "rdknotify-build.json").read_text())
    archives = sorted(str(path) for path in (prefix / "lib").glob("*.a"))
    libraries = [f"-l{name}" for name in info["libraries"]]
    source = str(ROOT / "benchmarks" / "limit.c")
    command = ["cc", "-O3", f"-I{prefix / 'include'}", source, *archives, *libraries, "-o", str(program)]
    subprocess.run(command, check=True)
    return program


def run(client: str, limit: Path, role: str, brokers: str, words: list[str]) -> dict[str, float]:
    """One run in a process of its own."""
    if client == LIMIT:
        command = [str(limit), role, brokers, *words]
    else:
        # The limit is told the number of partitions; the clients choose for themselves.
        words = [*words[:4], *words[5:]] if role == "produce" else words
        command = [sys.executable, "-m", "benchmarks.client", client, role, brokers, *words]
    figures: dict[str, float] = json.loads(_output(command).splitlines()[-1])
    return figures


def _output(command: list[str]) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command[:5])} failed with status {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout


def on_log(topic: str, brokers: str) -> int:
    """How many records a topic has, as the brokers count them."""
    from rdknotify._rdknotify import Consumer

    reader = Consumer({"bootstrap.servers": brokers, "group.id": "benchmarks"})
    try:
        return sum(reader.watermarks(topic, partition)[1] for partition in range(PARTITIONS))
    finally:
        reader.shut()


def compare(kafka: LocalKafka | RunningKafka, limit: Path, runs: int, records: int, size: int, batch: int) -> None:
    """Alternate the clients, producing and consuming, and print medians, spread and ratios."""
    produced: Figures = defaultdict(list)
    consumed: Figures = defaultdict(list)
    brokers = kafka.bootstrap_servers
    with Producer(kafka.url) as admin:
        for number in range(runs + 1):  # the first warms the broker and is not counted
            for client in PRODUCERS:
                topic = f"benchmark-{uuid.uuid4().hex[:8]}"
                kafka.create_topic(topic, PARTITIONS)
                settings = [f"{name}={value}" for name, value in PRODUCING.items()]
                words = [topic, str(records), str(size), str(batch), str(PARTITIONS), *settings]
                figures = run(client, limit, "produce", brokers, words)
                stored = on_log(topic, brokers)
                if stored != records + 1:
                    sys.exit(f"{client}: {stored} records on the log, {records + 1} were sent")
                if number:
                    produced[client].append(figures)
                if client != PRODUCERS[-1]:
                    admin.delete_topics([topic])
            for client in CONSUMERS:
                settings = [f"{name}={value}" for name, value in CONSUMING.items()]
                words = [topic, str(records), str(batch), f"group.id={uuid.uuid4().hex}", *settings]
                figures = run(client, limit, "consume", brokers, words)
                if number:
                    consumed[client].append(figures)
            admin.delete_topics([topic])
    show(f"produce {records:,} records of {size} bytes, batches of {batch:,}", produced)
    show(f"consume {records:,} records of {size} bytes, batches of at most {batch:,}", consumed)
    BUILD.joinpath("results.json").write_text(json.dumps({"produce": produced, "consume": consumed}, indent=1))


def show(title: str, results: Figures) -> None:
    """A table: median (min to max) of the rate, CPU a record, and the ratio to the limit pair by pair."""
    click.echo(f"\n{title}\n{'':26}{'thousand records/s':>28}{'CPU us/record':>16}{'of the limit':>26}")
    for client, figures in results.items():
        rates = [figure["records"] / figure["seconds"] / 1e3 for figure in figures]
        costs = [figure["cpu"] / figure["records"] * 1e6 for figure in figures]
        ratios = [limit["seconds"] / figure["seconds"] for figure, limit in zip(figures, results[LIMIT], strict=True)]
        rate = f"{statistics.median(rates):.0f} ({min(rates):.0f} to {max(rates):.0f})"
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        click.echo(f"{client:26}{rate:>28}{statistics.median(costs):>16.2f}{ratio:>26}")


@click.command()
@click.option("--kafka", "address", help="host:port of a running broker; otherwise one is started.")
@click.option("--runs", default=5, show_default=True, help="Counted runs of each client.")
@click.option("--records", default=500_000, show_default=True)
@click.option("--size", default=200, show_default=True, help="Bytes of a record's value.")
@click.option("--batch", default=1000, show_default=True, help="Records a call.")
def main(address: str | None, runs: int, records: int, size: int, batch: int) -> None:
    """Compare rdknotify with the limit in C and with confluent-kafka, producing and consuming."""
    limit = build_limit()
    with ExitStack() as stack:
        kafka = stack.enter_context(RunningKafka(address) if address else LocalKafka())
        compare(kafka, limit, runs, records, size, batch)


if __name__ == "__main__":
    main()
