"""Dispatch: who gets a notification, and what comes of it."""

import re
from typing import Any

import pytest

from rdknotify.dispatch import Dispatcher, NotificationFilter, NotificationResult
from rdknotify.envelope import Notification, new_notification
from rdknotify.errors import ConfigError

HANDLED, REQUEUE = NotificationResult.HANDLED, NotificationResult.REQUEUE


def notification(event_type: str = "compute.start", priority: str = "info", payload: Any = None) -> Notification:
    return new_notification("compute.node1", event_type, priority, payload or {}, {"user": "u1"})


class Endpoint:
    """Keeps what it gets and answers what it was made with; an exception is raised."""

    def __init__(self, answer: Any = None, filter_rule: Any = None) -> None:
        self.answer = answer
        self.filter_rule = filter_rule
        self.got: list[Any] = []

    def info(self, *arguments: Any) -> Any:
        self.got.append(arguments)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Loud(Endpoint):
    def error(self, *arguments: Any) -> Any:
        return self.info(*arguments)


def event_types(endpoint: Endpoint) -> list[list[str]]:
    """Of each call of a batch endpoint."""
    return [[message["event_type"] for message in messages] for (messages,) in endpoint.got]


# -- one by one


def test_an_endpoint_gets_what_was_sent() -> None:
    endpoint, sent = Endpoint(), notification(payload={"a": 1})
    assert Dispatcher([endpoint]).dispatch(sent) is HANDLED
    metadata = {"message_id": sent.message_id, "timestamp": sent.timestamp}
    assert endpoint.got == [({"user": "u1"}, "compute.node1", "compute.start", {"a": 1}, metadata)]


def test_priorities_are_those_of_the_endpoints() -> None:
    dispatcher = Dispatcher([Loud(), Endpoint()])
    assert dispatcher.priorities == ("info", "error")
    assert dispatcher.dispatch(notification(priority="debug")) is HANDLED
    assert dispatcher.dispatch(notification(priority="unheard-of")) is HANDLED


@pytest.mark.parametrize(
    ("answers", "result"),
    [
        ([None], HANDLED),
        ([HANDLED, None, "anything"], HANDLED),
        ([REQUEUE, HANDLED], REQUEUE),
        ([HANDLED, REQUEUE], REQUEUE),
        (["requeue"], REQUEUE),  # oslo.messaging's NotificationResult.REQUEUE
    ],
)
def test_every_endpoint_has_its_turn_and_requeue_wins(answers: list[Any], result: NotificationResult) -> None:
    endpoints = [Endpoint(answer) for answer in answers]
    assert Dispatcher(endpoints).dispatch(notification()) is result
    assert [len(endpoint.got) for endpoint in endpoints] == [1] * len(endpoints)


@pytest.mark.parametrize("batch", [False, True])
def test_an_exception_does_not_keep_it_from_the_others(batch: bool) -> None:
    first, second, third = ValueError("first"), KeyError("second"), Endpoint(REQUEUE)
    with pytest.raises(KeyError) as caught:
        Dispatcher([Endpoint(first), Endpoint(second), third], batch=batch).dispatch(notification())
    assert caught.value is second and second.__context__ is first
    assert len(third.got) == 1


@pytest.mark.parametrize("batch", [False, True])
def test_one_exception_object_raised_twice_is_no_loop(batch: bool) -> None:
    error = ValueError("shared")
    with pytest.raises(ValueError, match="shared"):
        Dispatcher([Endpoint(error), Endpoint(error)], batch=batch).dispatch(notification())
    assert error.__context__ is None


@pytest.mark.parametrize("batch", [False, True])
def test_an_interrupt_is_not_held_back(batch: bool) -> None:
    class Interrupted(Endpoint):
        def info(self, *arguments: Any) -> Any:
            raise KeyboardInterrupt

    other = Endpoint()
    with pytest.raises(KeyboardInterrupt):
        Dispatcher([Interrupted(), other], batch=batch).dispatch(notification())
    assert other.got == []


def test_metadata_of_one_endpoint_is_not_anothers() -> None:
    class Greedy(Endpoint):
        def info(self, ctxt: Any, publisher_id: Any, event_type: Any, payload: Any, metadata: Any) -> None:
            metadata.clear()

    other = Endpoint()
    Dispatcher([Greedy(), other]).dispatch(notification())
    assert set(other.got[0][4]) == {"message_id", "timestamp"}


# -- batches


def test_a_batch_endpoint_gets_dicts() -> None:
    endpoint, sent = Endpoint(), notification(payload={"a": 1})
    assert Dispatcher([endpoint], batch=True).dispatch_batch([sent]) == [HANDLED]
    assert endpoint.got == [
        (
            [
                {
                    "ctxt": {"user": "u1"},
                    "publisher_id": "compute.node1",
                    "event_type": "compute.start",
                    "payload": {"a": 1},
                    "metadata": {"message_id": sent.message_id, "timestamp": sent.timestamp},
                }
            ],
        )
    ]


def test_one_call_for_each_endpoint_and_priority_in_order() -> None:
    loud, endpoint = Loud(), Endpoint()
    batch = [notification("a"), notification("b", "error"), notification("c"), notification("d", "debug")]
    assert Dispatcher([loud, endpoint], batch=True).dispatch_batch(batch) == [HANDLED] * 4
    assert event_types(loud) == [["a", "c"], ["b"]]
    assert event_types(endpoint) == [["a", "c"]]


def test_requeue_of_a_batch_endpoint_is_for_what_it_got() -> None:
    some = Endpoint(REQUEUE, NotificationFilter(event_type="wanted"))
    batch = [notification("wanted.1"), notification("other"), notification("wanted.2")]
    assert Dispatcher([some, Endpoint()], batch=True).dispatch_batch(batch) == [REQUEUE, HANDLED, REQUEUE]


def test_a_batch_endpoint_is_not_called_for_nothing() -> None:
    none = Endpoint(filter_rule=NotificationFilter(event_type="other"))
    dispatcher = Dispatcher([none], batch=True)
    assert dispatcher.dispatch_batch([notification()]) == [HANDLED]
    assert dispatcher.dispatch_batch([]) == []
    assert none.got == []


def test_single_endpoints_take_no_batch() -> None:
    with pytest.raises(ConfigError, match="batch=True"):
        Dispatcher([Endpoint()]).dispatch_batch([notification()])


@pytest.mark.parametrize(("endpoints", "says"), [([], "there is none"), ([object()], "endpoint object has no method")])
def test_endpoints_that_could_never_be_called(endpoints: list[Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Dispatcher(endpoints)


# -- filters

MATCHING = {
    "context": {"user": "u1", "roles": ["a"]},
    "publisher_id": "compute.node1",
    "event_type": "compute.instance.start",
    "metadata": {"message_id": "m1", "timestamp": "2024-01-01"},
    "payload": {"state": "active", "size": 3},
}


@pytest.mark.parametrize(
    ("rule", "matches"),
    [
        ({}, True),
        ({"event_type": r"compute\.instance\..*"}, True),
        ({"event_type": r"instance"}, False),  # matched from the beginning
        ({"event_type": re.compile("COMPUTE", re.IGNORECASE)}, True),
        ({"publisher_id": "^compute.*"}, True),
        ({"publisher_id": "^network.*"}, False),
        ({"context": {"user": "u"}}, True),
        ({"context": {"tenant": ".*"}}, False),
        ({"context": {"roles": ".*"}}, False),  # not text
        ({"metadata": {"timestamp": "2024"}}, True),
        ({"payload": {"state": "^active$"}}, True),
        ({"payload": {"state": "^active$", "size": "3"}}, False),
        ({"event_type": "compute", "payload": {"state": "error"}}, False),
    ],
)
def test_filter(rule: dict[str, Any], matches: bool) -> None:
    assert NotificationFilter(**rule).match(**MATCHING) is matches


@pytest.mark.parametrize("payload", [None, "state", ["state"], 7])
def test_a_payload_that_is_no_mapping_matches_no_expression(payload: Any) -> None:
    assert not NotificationFilter(payload={"state": ".*"}).match(**{**MATCHING, "payload": payload})
    assert NotificationFilter().match(**{**MATCHING, "payload": payload})


def test_a_publisher_that_is_none_matches_no_expression() -> None:
    assert not NotificationFilter(publisher_id=".*").match(**{**MATCHING, "publisher_id": None})


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ({"event_type": "("}, r"filter: event_type='\(' is not a regular expression"),
        ({"publisher_id": 7}, "filter: publisher_id=7"),
        ({"payload": {"state": "["}}, r"filter: payload\['state'\]='\['"),
        ({"context": "u1"}, "filter: context is a mapping of keys to expressions, not str"),
    ],
)
def test_bad_filters(rule: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        NotificationFilter(**rule)


def test_a_filter_decides_for_its_endpoint_only() -> None:
    starts, all_of_them = Endpoint(filter_rule=NotificationFilter(event_type="compute.start")), Endpoint()
    dispatcher = Dispatcher([starts, all_of_them])
    for event_type in ("compute.start", "compute.stop"):
        dispatcher.dispatch(notification(event_type))
    assert [len(endpoint.got) for endpoint in (starts, all_of_them)] == [1, 2]


def test_a_filter_of_someone_else_may_fail() -> None:
    class Broken:
        def match(self, *arguments: Any) -> bool:
            raise RuntimeError("no")

    other = Endpoint()
    with pytest.raises(RuntimeError):
        Dispatcher([Endpoint(filter_rule=Broken()), other]).dispatch(notification())
    assert len(other.got) == 1
