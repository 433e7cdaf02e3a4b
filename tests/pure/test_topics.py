"""Names of topics."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdknotify.errors import ConfigError
from rdknotify.topics import PRIORITIES, check_name, dead_letter_topic, notification_topic, retry_topic

KAFKA_NAME = r"[a-zA-Z0-9._-]{1,249}"
names = st.from_regex(r"[a-zA-Z0-9._-]{1,40}", fullmatch=True).filter(lambda name: name not in (".", ".."))


@given(names, st.sampled_from(PRIORITIES), st.one_of(st.none(), names))
def test_notification_topic_is_the_parts_joined(topic: str, priority: str, vhost: str | None) -> None:
    name = notification_topic(topic, priority, vhost)
    assert name == ".".join(filter(None, [topic, priority, vhost]))
    assert check_name(name) == name


def test_an_empty_virtual_host_is_none() -> None:
    assert notification_topic("notifications", "info", "") == "notifications.info"


@pytest.mark.parametrize(
    ("topic", "priority", "vhost", "says"),
    [
        ("no space", "info", None, "no space"),
        ("notifications", "info", "/", "virtual_host '/'"),
        ("notifications", "loud", None, "one of audit, debug"),
        ("notifications", "INFO", None, "one of audit, debug"),
        ("n" * 200, "info", "v" * 50, "has 256 characters"),
        ("", "info", None, "empty"),
        ("..", "info", None, "'..'"),
    ],
)
def test_errors_name_the_part(topic: str, priority: str, vhost: str | None, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        notification_topic(topic, priority, vhost)
    assert says in str(caught.value)


@pytest.mark.parametrize("name", ["", ".", "..", "a" * 250, "a/b", "é", "a\n", "٣"])
def test_names_that_kafka_refuses(name: str) -> None:
    with pytest.raises(ConfigError):
        check_name(name)


def test_names_at_the_limit() -> None:
    assert check_name("a" * 249) == "a" * 249
    with pytest.raises(ConfigError, match="not int"):
        check_name(7)  # type: ignore[arg-type]


def test_plain_groups_give_plain_names() -> None:
    assert retry_topic("notifications.info", "billing") == "notifications.info.billing.retry"
    assert dead_letter_topic("notifications.info", "billing") == "notifications.info.billing.dead-letter"


@given(names, st.text(max_size=300))
def test_any_group_gives_a_name_that_kafka_accepts(topic: str, group: str) -> None:
    for name in (retry_topic(topic, group), dead_letter_topic(topic, group)):
        assert re.fullmatch(KAFKA_NAME, name)


@given(st.tuples(names, st.text()), st.tuples(names, st.text()))
def test_two_groups_never_share_a_retry_topic(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert (retry_topic(*one) == retry_topic(*other)) == (one == other)


def test_dots_do_not_make_two_groups_one() -> None:
    assert retry_topic("a.b", "c") != retry_topic("a", "b.c")
