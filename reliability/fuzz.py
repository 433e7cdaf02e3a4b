"""What strangers' bytes may do to our parsers, as one function a parser: ``python -m reliability fuzz``, and tests.

A target takes any bytes; what it raises is a defect: another exception than ours, two readers that disagree, something
that does not survive the way there and back. Each has a corpus in tests/data/fuzz: what a defect was found with
belongs there. The tests vary it with hypothesis, ``fuzz`` guided by coverage with atheris.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import orjson

ROOT = Path(__file__).parent.parent
CORPUS = ROOT / "tests/data/fuzz"
FOUND = ROOT / "build/fuzz"
TOO_DEEP = "nested too deeply"
LONGEST_REASON = 300
"""Characters of an error: what was wrong, never the whole of what was sent."""


@dataclass(frozen=True)
class _Record:
    """A consumed record, as far as those who judge it look."""

    value: bytes | None = None
    headers: list[tuple[str, bytes | None]] = field(default_factory=list)
    key: bytes | None = None
    topic: str = "topic"
    partition: int = 3
    offset: int = 7
    timestamp: int | None = 1


def envelope(data: bytes) -> None:
    """The three readers of an envelope agree; what was read can be written and read again, unless it is too deep."""
    from rdknotify.envelope import decode, decode_flat, decode_message, encode
    from rdknotify.errors import EnvelopeError

    whole, flat, apart = (_tried(reader, data, EnvelopeError) for reader in (decode, decode_flat, decode_message))
    if isinstance(whole, EnvelopeError):
        assert type(flat) is type(apart) is EnvelopeError, f"{whole}, but {flat} and {apart}"
        assert len(str(whole)) < LONGEST_REASON, whole
        return
    assert not isinstance(apart, EnvelopeError), apart
    assert _same(apart[0]["payload"], whole.payload) and _same(apart[1], whole.context)
    if not isinstance(flat, EnvelopeError):
        names = whole.message_id, whole.timestamp, whole.publisher_id, whole.event_type, whole.priority
        assert flat[:5] == names, f"{flat[:5]} is not {names}"
        assert _same(_parsed(flat[5]), whole.payload, nulls=True)
    else:
        assert TOO_DEEP in str(flat), flat
    written = _tried(encode, whole, EnvelopeError)
    if not isinstance(written, EnvelopeError):
        again = decode(written)
        assert _same(again.payload, whole.payload) and _same(again.extra, whole.extra), f"{again} is not {whole}"
    else:
        assert TOO_DEEP in str(written), written


def composed(data: bytes) -> None:
    """A notification that the core wrote is, byte by byte, the one that Python writes."""
    from rdknotify._rdknotify import compose
    from rdknotify.envelope import encode_message, encode_new
    from rdknotify.errors import EnvelopeError

    try:
        payload = json.loads(data)
    except (ValueError, RecursionError):
        payload = data.decode("utf-8", "surrogateescape")
    publisher = payload if isinstance(payload, str) else "publisher"
    context = payload if isinstance(payload, dict) else {}
    made = _tried(lambda: encode_new(publisher, "event", "INFO", payload, context, compose)[1], (), EnvelopeError)
    if isinstance(made, EnvelopeError):
        assert TOO_DEEP in str(made), made
        return
    message = json.loads(json.loads(made)["oslo.message"])
    del message["_context"]
    assert made == encode_message({**message, "publisher_id": publisher, "payload": payload}, context)


def url(data: bytes) -> None:
    """A transport URL is refused in words, or the same when written and read again."""
    from rdknotify.errors import ConfigError
    from rdknotify.url import TransportURL

    read = _tried(TransportURL.parse, data.decode("utf-8", "surrogateescape"), ConfigError)
    if not isinstance(read, ConfigError):
        assert TransportURL.parse(read.unredacted()) == read, read
        assert repr(read) and str(read)


def options(data: bytes) -> None:
    """Options, properties and parameters of a URL are refused in words, or give text for librdkafka."""
    from rdknotify.errors import ConfigError
    from rdknotify.options import resolve

    try:
        given = json.loads(data)
    except (ValueError, RecursionError):
        given = {"sasl_mechanism": data.decode("latin-1")}
    first, second = given if isinstance(given, list) and len(given) == 2 else (given, {})
    for role in ("producer", "consumer"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            settings = _tried(
                lambda role=role: resolve(
                    "kafka://u:p@h",
                    role,
                    first if isinstance(first, dict) else {"linger": first},
                    second if isinstance(second, dict) else {"linger.ms": second},
                ),
                (),
                ConfigError,
            )
        if not isinstance(settings, ConfigError):
            assert all(type(name) is type(value) is str for name, value in settings.conf.items()), settings
            assert repr(settings)


def headers(data: bytes) -> None:
    """Headers of retries and dead letters, each name and value behind a zero byte, tell an origin or are none."""
    from rdknotify.provenance import PREFIX, Origin, origin_headers

    parts = data.split(b"\0")
    names = [part.decode("utf-8", "replace") for part in parts[0::2]]
    pairs = [(PREFIX + name, value) for name, value in zip(names, parts[1::2], strict=False)]
    record = _Record(headers=[*pairs, ("own", b"kept"), (PREFIX + "reason", None)])
    origin = Origin.of(record)
    assert type(origin.offset) is type(origin.attempts) is type(origin.not_before) is int
    again = origin_headers(record, "group", reason="why", attempts=2)
    assert ("own", b"kept") in again
    back = Origin.of(_Record(headers=again))
    assert (back.topic, back.partition, back.offset) == (origin.topic, origin.partition, origin.offset)
    assert (back.group, back.attempts) == ("group", 2)


def rows(data: bytes) -> None:
    """Every schema makes a row of a record or says briefly why not."""
    from rdknotify.sinks.metric import METRIC
    from rdknotify.sinks.schema import NOTIFICATION, RAW, Schema

    class Batch(list[_Record]):
        def origins(self) -> list[tuple[str, int, int]]:
            return [(record.topic, record.partition, record.offset) for record in self]

    schemas: tuple[Schema, ...] = (NOTIFICATION, METRIC, RAW)
    for schema in schemas:
        made, poison = schema.rows(Batch([_Record(value=data, headers=[("h", data)])]))  # type: ignore[arg-type]
        assert len(made) + len(poison) == 1
        assert all(len(row) == len(schema.columns) for row in made), made
        assert all(len(each.reason) < LONGEST_REASON for each in poison), poison
    assert made, "RAW takes everything"


def metadata(data: bytes) -> None:
    """A broker's answer to the kit's one request is a view of the cluster, or ConnectionError."""
    from rdknotify.testing.wire import ClusterView, read_metadata

    assert isinstance(_tried(read_metadata, data, ConnectionError), (ClusterView, ConnectionError))


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (envelope, composed, url, options, headers, rows, metadata)
}
NEED_EXTENSION = {"composed"}


def _tried(action: Callable[..., Any], given: Any, expected: type[Exception]) -> Any:
    """What comes of it, or the exception that is to come out, every other one is a defect."""
    try:
        return action() if given == () else action(given)
    except expected as error:
        return error


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        return orjson.loads(text)  # its depth is less limited


def _same(one: Any, other: Any, nulls: bool = False) -> bool:
    """Equal JSON; NaN equals itself, and null where columns of JSON cannot hold it. Depth does not matter."""
    pairs = [(one, other)]
    while pairs:
        left, right = pairs.pop()
        if isinstance(left, dict) and isinstance(right, dict) and left.keys() == right.keys():
            pairs += [(left[key], right[key]) for key in left]
        elif isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
            pairs += zip(left, right, strict=True)
        elif isinstance(right, float) and right - right != 0:  # NaN, infinite
            if str(left) != str(right) and not (nulls and left is None):
                return False
        elif left != right or type(left) is not type(right):
            return False
    return True


def corpus(name: str) -> list[bytes]:
    """What is kept for a target: a line of JSON each, in which a character is a byte."""
    return [json.loads(line).encode("latin-1") for line in (CORPUS / f"{name}.jsonl").read_text().splitlines()]


@click.command("fuzz")
@click.option("--seconds", default=300, help="In all, shared among the targets.")
@click.argument("names", nargs=-1, type=click.Choice([*TARGETS]))
def command(seconds: int, names: tuple[str, ...]) -> None:
    """Vary the corpus guided by coverage; what breaks a target is kept in build/fuzz."""
    chosen = names or tuple(TARGETS)
    broken = []
    for name in chosen:
        folder = FOUND / name
        (folder / "corpus").mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(corpus(name)):
            (folder / f"corpus/kept-{number}").write_bytes(data)
        began = time.monotonic()
        arguments = [
            f"-max_total_time={max(1, seconds // len(chosen))}",
            f"-artifact_prefix={folder}/",
            "-print_final_stats=1",
            "-max_len=4096",
            str(folder / "corpus"),
        ]
        command = [sys.executable, "-m", "reliability.fuzz", name, *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        executed = next((line.split()[-1] for line in done.stderr.splitlines() if "number_of_executed" in line), "0")
        click.echo(
            f"{name}: {int(executed):,} inputs in {time.monotonic() - began:.0f} s, exit status {done.returncode}"
        )
        if done.returncode:
            broken.append(name)
            click.echo(done.stdout[-3000:] + done.stderr[-3000:])
    if broken:
        raise click.ClickException(f"broken: {', '.join(broken)}; the inputs are in {FOUND}")


def _guided(name: str, arguments: list[str]) -> None:
    """In a process of its own: atheris never returns."""
    try:
        import atheris
    except ImportError:
        sys.exit("atheris is missing: pip install 'rdknotify[fuzz]'")
    with atheris.instrument_imports(include=["rdknotify"]):
        import rdknotify.envelope
        import rdknotify.options
        import rdknotify.provenance
        import rdknotify.sinks.schema
        import rdknotify.testing.wire  # noqa: F401
    atheris.Setup([sys.argv[0], *arguments], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    _guided(sys.argv[1], sys.argv[2:])
