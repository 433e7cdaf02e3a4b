"""The records of a share group for a :class:`~rdknotify.Listener`: taken, and each settled by itself."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from rdknotify import metrics
from rdknotify._rdknotify import Record
from rdknotify.errors import AcknowledgeFailed, ConfigError, KafkaError
from rdknotify.intake import COUNTED, Counts
from rdknotify.logged import Seldom, error_name, tell
from rdknotify.options import for_role, resolve
from rdknotify.share import ShareConsumer
from rdknotify.topics import check_name
from rdknotify.url import TransportURL

__all__ = ["ShareIntake"]

log = logging.getLogger(__name__)


class ShareIntake:
    """What :class:`~rdknotify.intake.Intake` is to a consumer group. One thread at a time.

    Arguments as :class:`~rdknotify.intake.Intake`'s. ``on_revoked`` is called with partitions whose records are not
    settled, when their lock has expired: other members may have them. Raises ConfigError.
    """

    settle_after = True

    def __init__(
        self,
        url: str | TransportURL,
        topics: Sequence[str],
        *,
        group: str | None,
        dead_letter: str | bool | None,
        config: Mapping[str, Any] | None,
        options: Mapping[str, Any],
        on_revoked: Callable[[set[tuple[str, int]], bool], object],
    ) -> None:
        values = resolve(url, "listener", for_role(options, "listener")).values
        if "retry_delay" in options:
            raise ConfigError(
                f"retry_delay={options['retry_delay']!r}: with settle='share' what is wanted again is handed out at "
                "once; leave it out, or use settle='after'"
            )
        for_member = {**for_role(options, "producer"), **for_role(options, "share consumer")}
        member = resolve(url, "share consumer", for_role(options, "share consumer"), config).values
        resolve(url, "producer", for_role(options, "producer"), config)
        if dead_letter is None:
            dead_letter = values["dead_letter_topic"] or True
        if isinstance(dead_letter, str):
            check_name(dead_letter, dead_letter=dead_letter)
        self.group: str = group or member["consumer_group"]
        self.max_records: int = member["max_poll_records"]
        self.stop_timeout: float = values["stop_timeout"]
        self._seldom = Seldom()
        self.counts = Counts()
        metrics.register(self, metrics.Fields(self.counts, COUNTED, self.group))
        self._last = member["max_deliveries"]
        self._dead_letter = dead_letter
        self._topics = list(dict.fromkeys(topics))
        self._options = {**for_member, "config": config, "dead_letter": dead_letter}
        self._url = url
        self._on_revoked = on_revoked
        self._resources = ExitStack()

    def open(self, check: bool = True) -> None:
        """Connect and join the group. ``check``: raise what the cluster says, or Timeout if it says nothing."""
        unchecked = {} if check else {"connect_timeout": None}
        self._member = ShareConsumer(self._url, self._topics, self.group, **self._options | unchecked)
        self._resources.callback(self._member.close)

    def close(self) -> None:
        """Leave the group and release; idempotent. What is not settled goes to other members."""
        self._resources.close()
        vars(self).pop("_member", None)

    def receive(self, most: int, wait: float) -> list[Record]:
        """What is there, up to ``most`` records, after at most ``wait`` seconds; nothing while some are not settled.

        Raises KafkaError for what does not pass by itself.
        """
        if self._member.unsettled:
            time.sleep(wait)
            return self.rest(0.0)
        records = self._told(lambda: list(self._member.poll(most, wait))) or []
        self.counts.received += len(records)
        return records

    def rest(self, wait: float) -> list[Record]:
        """Let go of what is late; being a member needs nothing. Returns no records."""
        late = self._told(self._member.drop_late)
        if late:
            self._on_revoked({(record.topic, record.partition) for record in late}, True)
        return []

    def commit(self, offsets: Mapping[tuple[str, int], int], meanwhile: Callable[[], object] | None = None) -> bool:
        """Accept what was handed out before these offsets and is not settled otherwise, and send all; always true.

        A fetch has each partition's records in order, and there is only one at a time. What fails comes again.
        """
        if meanwhile is not None:
            meanwhile()
        if offsets:
            self._member.accept(
                record
                for record in self._member.unsettled
                if record.offset < offsets.get((record.topic, record.partition), 0)
            )
            self._told(self._member.commit)
        return True

    def requeue(self, records: Sequence[Record]) -> None:
        """Have them handed out again, or bury what was handed out often enough. Raises as :meth:`bury`."""
        self._member.release(records)
        spent = sum(record.delivery_count >= self._last for record in records)
        self.counts.requeued += len(records) - spent
        self._count_buried(spent)

    def bury(self, records: Sequence[Record], reason: str | Sequence[str], attempts: int | None = None) -> None:
        """Keep dead letters where they are safe, then reject them; raises PartialDeliveryError or KafkaError."""
        self._member.reject(records, reason)
        self._count_buried(len(records))

    def _count_buried(self, count: int) -> None:
        if self._dead_letter:
            self.counts.dead_lettered += count
        else:
            self.counts.skipped += count

    def _told(self, call: Callable[[], Any]) -> Any:
        """The call's answer; None when settling failed, which is logged: those records come again."""
        try:
            return call()
        except AcknowledgeFailed as error:
            if error.fatal:
                raise
            self._tell("not_committed", f"not settled: {error}", error)
        except KafkaError as error:
            if error.fatal or not error.retriable:
                raise
            self._tell("retrying", f"{error}; trying again", error)
        return None

    def _tell(self, event: str, text: str, error: KafkaError) -> None:
        if self._seldom.may(text):
            tell(log, event, "group %s: %s", self.group, text, group=self.group, error=error_name(error))
