"""Dead letters sent again: as they were, or after a fix; each counts as done only when the broker has it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import click

from rdknotify.cli.connection import Connection
from rdknotify.cli.dead_letter.letters import SENT_AGAIN, Letter, Place
from rdknotify.errors import KafkaError, RdNotifyError
from rdknotify.outcomes import Outcome
from rdknotify.producer import Producer

__all__ = ["Change", "NotSent", "Tally", "by_command", "by_editor", "send_again", "unchanged"]

CHUNK = 500
"""Letters sent, and then remembered as done, at a time."""
DELIVERY_TIMEOUT = 8.0
FIX_TIMEOUT = 30.0


class NotSent(RdNotifyError):
    """This letter is not sent; the text says why, and what to do."""


class NotRemembered(RdNotifyError):
    """Letters were sent again, and nothing says so: the text names them."""


Change = Callable[[Letter], "bytes | None"]
"""Makes the value to be sent; raises NotSent."""


@dataclass
class Tally:
    """How many were sent, and why the others were not."""

    sent: int = 0
    failures: list[tuple[Letter, str]] = field(default_factory=list)


def unchanged(letter: Letter) -> bytes | None:
    return letter.value


def by_command(command: str) -> Change:
    """The value goes to a shell command's standard input; what it prints is sent."""

    def change(letter: Letter) -> bytes:
        try:
            done = subprocess.run(
                command, shell=True, input=letter.value or b"", capture_output=True, timeout=FIX_TIMEOUT, check=False
            )
        except subprocess.TimeoutExpired:
            raise NotSent(f"--fix {command!r} took more than {FIX_TIMEOUT:g} s") from None
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines()
            raise NotSent(f"--fix {command!r} ended with status {done.returncode}{': ' + said[-1] if said else ''}")
        if letter.value and not done.stdout:
            raise NotSent(f"--fix {command!r} printed nothing")
        return done.stdout

    return change


def by_editor(letter: Letter) -> bytes:
    """The value goes through the user's editor ($VISUAL, $EDITOR)."""
    try:
        text = (letter.value or b"").decode()
    except UnicodeDecodeError:
        raise NotSent("its value is no text: use --fix") from None
    edited = click.edit(text, extension=".json", require_save=True)
    if edited is None:
        raise NotSent("it was not changed in the editor; it is left where it is")
    # Editors end the last line.
    return (edited if text.endswith("\n") else edited.rstrip("\n")).encode()


def send_again(
    place: Place,
    letters: Sequence[Letter],
    connection: Connection,
    to: str | None,
    change: Change,
    stopped: Callable[[], object],
    *,
    chunk: int = CHUNK,
) -> Tally:
    """Send them to the topics that they came from, or to that one; raises what makes going on useless."""
    tally = Tally()
    arguments = connection.arguments("producer")
    arguments.setdefault("delivery_timeout", DELIVERY_TIMEOUT)
    with Producer(connection.url, **arguments) as producer:
        for begin in range(0, len(letters), chunk):
            if stopped():
                break
            by_topic: dict[str, list[tuple[Letter, bytes | None]]] = {}
            for letter in letters[begin : begin + chunk]:
                try:
                    by_topic.setdefault(_target(place, letter, to), []).append((letter, change(letter)))
                except NotSent as error:
                    tally.failures.append((letter, str(error)))
            for topic, made in by_topic.items():
                delivered = _deliver(producer, topic, made, tally)
                _mark(place, delivered)
                tally.sent += len(delivered)
    return tally


def _mark(place: Place, delivered: Sequence[Letter]) -> None:
    try:
        place.mark(delivered, SENT_AGAIN)
    except (RdNotifyError, OSError) as error:
        numbers = ", ".join(letter.number for letter in delivered[:20]) + (" ..." if len(delivered) > 20 else "")
        raise NotRemembered(
            f"{numbers} were sent again, but that could not be remembered: {error}; they are listed still: discard "
            "them when that works, or they are sent twice"
        ) from error


def _target(place: Place, letter: Letter, to: str | None) -> str:
    if not letter.has_its_value:
        raise NotSent(f"its value was not kept: it is in {letter.came_from}, if that is still on the log")
    topic = to or (letter.origin.topic if letter.came_from else None)
    if topic is None:
        raise NotSent("it does not say where it came from: give --to TOPIC")
    if topic == place.name:
        raise NotSent(f"{topic} is the dead letter topic itself: give another --to")
    return topic


def _deliver(producer: Producer, topic: str, made: Sequence[tuple[Letter, bytes | None]], tally: Tally) -> list[Letter]:
    """Those that are on the log."""
    letters = [letter for letter, _ in made]
    try:
        report = producer.deliver(
            topic,
            [value for _, value in made],
            [letter.key for letter in letters],
            [letter.own_headers for letter in letters],
        )
    except KafkaError as error:
        if error.fatal:
            raise
        tally.failures += [(letter, str(error)) for letter in letters]
        return []
    for failure in report.failures:
        unsure = failure.outcome is Outcome.POSSIBLY_PERSISTED
        hint = "; it may be on the log all the same: look there before it is sent again" if unsure else ""
        tally.failures.append((letters[failure.index], f"{failure.error}{hint}"))
    failed = {failure.index for failure in report.failures}
    return [letter for number, letter in enumerate(letters) if number not in failed]
