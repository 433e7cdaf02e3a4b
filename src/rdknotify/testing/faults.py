"""Faults for tests: of the network, of Kafka's nodes, of the processes that work with them.

Each is an object with ``begin()`` and ``end()``, both idempotent, and a context manager; its ``str`` says what
happens to whom, as ``freeze node 2``::

    with LocalKafka(nodes=3, proxied=True) as kafka, Producer(kafka.proxied_url) as producer:
        with DropReplies(kafka.proxies, "node 2"):
            producer.send_batch(...)

Two faults of one kind with the same target are not to overlap. ``kafka.heal()`` ends all that its nodes and
proxies suffer from, whoever began it; to ``end()`` a fault afterwards does no harm.
"""

from __future__ import annotations

import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, TypeVar

from rdknotify.errors import RdNotifyError
from rdknotify.testing.process import GuardedProcess
from rdknotify.testing.proxies import Direction, Proxies

if TYPE_CHECKING:  # members and proxies are of use without the extension
    from rdknotify.testing.local import LocalKafka

__all__ = [
    "Cut",
    "DropReplies",
    "Fault",
    "Freeze",
    "KillMember",
    "KillNode",
    "LeaveMember",
    "Member",
    "MemberError",
    "PauseMember",
    "PauseNode",
    "ResetStorm",
    "RestartNode",
    "RollingRestart",
    "Slow",
    "every_fault",
]

BOTH_WAYS: tuple[Direction, ...] = ("upstream", "downstream")
EXIT_TIMEOUT = 30.0
"""Seconds that a member may take to leave cleanly before it is killed."""

_F = TypeVar("_F", bound="Fault")


class Fault(ABC):
    """Something that goes wrong from ``begin`` to ``end``. Not thread-safe."""

    kind: ClassVar[str]

    def __init__(self, target: str) -> None:
        self.target = target
        self.begun = False

    def __str__(self) -> str:
        return f"{self.kind} {self.target}"

    def begin(self) -> None:
        """Let it happen; nothing to do when it has begun."""
        if not self.begun:
            self.begun = True  # first: end() also undoes what began by half
            self._begin()

    def end(self) -> None:
        """Undo it, and wait until what was down is there; nothing to do when it has not begun."""
        if self.begun:
            self._end()
            self.begun = False

    def __enter__(self: _F) -> _F:
        try:
            self.begin()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    @abstractmethod
    def _begin(self) -> None: ...

    @abstractmethod
    def _end(self) -> None: ...


class _NetworkFault(Fault):
    """Of one proxy, or of all of them where no name is given."""

    def __init__(self, proxies: Proxies, name: str | None = None) -> None:
        super().__init__("all" if name is None else name)
        self._proxies = proxies
        self._names = proxies.names if name is None else [name]


class Cut(_NetworkFault):
    """Connections end, new ones are refused."""

    kind = "cut"

    def _begin(self) -> None:
        for name in self._names:
            self._proxies.disable(name)

    def _end(self) -> None:
        for name in self._names:
            self._proxies.enable(name)


class _Toxic(_NetworkFault):
    """What a toxic in one direction or both does."""

    def _begin(self) -> None:
        for name in self._names:
            for label, (kind, direction, attributes) in self._toxics().items():
                self._proxies.add_toxic(name, label, kind, direction, **attributes)

    def _end(self) -> None:
        for name in self._names:
            self._proxies.remove_toxics(name, self._toxics())

    @abstractmethod
    def _toxics(self) -> dict[str, tuple[str, Direction, dict[str, int]]]: ...


class Freeze(_Toxic):
    """Connections stay and take bytes, none arrives either way; at the end they are closed, their bytes are lost."""

    kind = "freeze"

    def _toxics(self) -> dict[str, tuple[str, Direction, dict[str, int]]]:
        return {f"{self.kind}-{way}": ("timeout", way, {"timeout": 0}) for way in BOTH_WAYS}


class DropReplies(_Toxic):
    """Requests arrive, replies vanish; a connection without replies ends after ``patience`` seconds (0: stays)."""

    kind = "drop replies of"

    def __init__(self, proxies: Proxies, name: str | None = None, patience: float = 0.8) -> None:
        super().__init__(proxies, name)
        self._patience = patience

    def _toxics(self) -> dict[str, tuple[str, Direction, dict[str, int]]]:
        return {"drop-replies": ("timeout", "downstream", {"timeout": round(self._patience * 1000)})}


class Slow(_Toxic):
    """Each way takes ``latency`` seconds longer and lets ``bandwidth`` bytes a second through."""

    kind = "slow"

    def __init__(
        self, proxies: Proxies, name: str | None = None, latency: float = 0.1, bandwidth: float = 375_000
    ) -> None:
        super().__init__(proxies, name)
        self._latency, self._kilobytes = round(latency * 1000), max(1, round(bandwidth / 1000))

    def _toxics(self) -> dict[str, tuple[str, Direction, dict[str, int]]]:
        late = {f"late-{way}": ("latency", way, {"latency": self._latency}) for way in BOTH_WAYS}
        narrow = {f"narrow-{way}": ("bandwidth", way, {"rate": self._kilobytes}) for way in BOTH_WAYS}
        return {**late, **narrow}


class ResetStorm(_NetworkFault):
    """Every connection ends, at once and then every ``every`` seconds; new ones are taken in between."""

    kind = "reset storm on"

    def __init__(self, proxies: Proxies, name: str | None = None, every: float = 1.0) -> None:
        super().__init__(proxies, name)
        self.resets = 0
        self._every = every
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: RdNotifyError | None = None

    def _begin(self) -> None:
        self._over.clear()
        self._thread = threading.Thread(target=self._run, name=str(self), daemon=True)
        self._thread.start()

    def _end(self) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        error, self._thread, self._error = self._error, None, None
        if error is not None:
            raise error

    def _run(self) -> None:
        try:
            while True:
                for name in self._names:
                    self._proxies.reset(name)
                self.resets += 1
                if self._over.wait(self._every):
                    return
        except RdNotifyError as error:
            self._error = error


class _NodeFault(Fault):
    """Of one node, or of all of them where none is given."""

    def __init__(self, kafka: LocalKafka, node: int | None = None) -> None:
        super().__init__("all nodes" if node is None else f"node {node}")
        self._kafka = kafka
        self._numbers = kafka.nodes if node is None else [node]


class KillNode(_NodeFault):
    """SIGKILL; it is started again at the end."""

    kind = "kill"

    def _begin(self) -> None:
        for number in self._numbers:
            self._kafka.kill(number)

    def _end(self) -> None:
        self._kafka.revive(*self._numbers)


class PauseNode(_NodeFault):
    """SIGSTOP: it keeps its connections and says nothing; SIGCONT at the end."""

    kind = "pause"

    def _begin(self) -> None:
        for number in self._numbers:
            self._kafka.pause(number)

    def _end(self) -> None:
        for number in self._numbers:
            if self._kafka.is_paused(number):
                self._kafka.resume(number)


class RestartNode(_NodeFault):
    """SIGTERM, upon which it hands its partitions over; it is started again at the end."""

    kind = "restart"

    def _begin(self) -> None:
        for number in self._numbers:
            self._kafka.stop(number)

    def _end(self) -> None:
        self._kafka.revive(*self._numbers)


class RollingRestart(_NodeFault):
    """Each node in its turn is restarted, and waited for until it is in sync; over when ``begin`` returns."""

    kind = "rolling restart of"

    def __init__(self, kafka: LocalKafka) -> None:
        super().__init__(kafka)

    def _begin(self) -> None:
        for number in self._numbers:
            self._kafka.restart(number)
            self._kafka.wait_in_sync()

    def _end(self) -> None:
        self._kafka.revive(*self._numbers)


class MemberError(RdNotifyError):
    """A member's process did not do what was asked."""


class Member(GuardedProcess):
    """A process of our own that works with Kafka: can be killed, paused, told to leave, started again.

    ``command`` is to end cleanly at SIGTERM; what it writes is in ``folder/log``. It dies with us.
    """

    def __init__(self, name: str, folder: Path, command: Iterable[str]) -> None:
        super().__init__(name, folder, MemberError)
        self._command = list(command)
        folder.mkdir(parents=True, exist_ok=True)
        self.revive()

    def revive(self) -> None:
        """Start it; nothing to do when it runs."""
        self.start(self._command)

    def leave(self, timeout: float = EXIT_TIMEOUT) -> None:
        """SIGTERM, and wait. Raises MemberError when it had to be killed after ``timeout`` seconds."""
        if not self.running:
            return
        if self.paused:
            self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)
        if not self.wait(timeout):
            self.kill()
            raise MemberError(f"{self.name} did not end within {timeout:g} s of SIGTERM:\n{self.log_tail(20)}")


class _MemberFault(Fault):
    def __init__(self, member: Member) -> None:
        super().__init__(member.name)
        self._member = member


class KillMember(_MemberFault):
    """SIGKILL; another one is started at the end."""

    kind = "kill"

    def _begin(self) -> None:
        self._member.kill()

    def _end(self) -> None:
        self._member.revive()


class PauseMember(_MemberFault):
    """SIGSTOP; SIGCONT at the end, when its partitions may be another's."""

    kind = "pause"

    def _begin(self) -> None:
        self._member.send(signal.SIGSTOP)

    def _end(self) -> None:
        if self._member.running:
            self._member.send(signal.SIGCONT)


class LeaveMember(_MemberFault):
    """SIGTERM, upon which it leaves its group; another one is started at the end."""

    kind = "leave of"

    def _begin(self) -> None:
        self._member.leave()

    def _end(self) -> None:
        self._member.revive()


def every_fault(kafka: LocalKafka, members: Iterable[Member] = ()) -> list[Fault]:
    """One of each fault for each target, in a fixed order, for a schedule to choose from by a seed."""
    network: list[type[_NetworkFault]] = [Cut, Freeze, Slow, DropReplies, ResetStorm]
    nodes: list[type[_NodeFault]] = [KillNode, PauseNode, RestartNode]
    of_members: list[type[_MemberFault]] = [KillMember, PauseMember, LeaveMember]
    return [
        *(kind(kafka.proxies, name) for kind in network for name in (*kafka.proxies.names, None)),
        *(kind(kafka, number) for kind in nodes for number in kafka.nodes),
        RollingRestart(kafka),
        *(kind(member) for member in members for kind in of_members),
    ]
