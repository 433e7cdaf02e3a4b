"""What a broker does not know, as the embedded one groups and settings, is an error of each thing, or of all.

Apart from the core's tests: librdkafka 2.15.1 then keeps a queue of the client for ever, which LeakSanitizer tells.
"""

from __future__ import annotations

import pytest

from rdknotify import Admin, KafkaError
from rdknotify.testing.mock import MockCluster


def test_each_has_its_error_or_all_have(mock_cluster: MockCluster) -> None:
    mock_cluster.create_topic("orders", 1)
    with Admin(mock_cluster.url) as admin:
        answers = [*admin.describe_groups(["a", "b"]).values(), *admin.delete_groups(["a"]).values()]
        answers += admin.delete_records({("orders", 0): 1}).values()
        assert [getattr(answer, "name", answer) for answer in answers] == ["_UNSUPPORTED_FEATURE"] * 4
        with pytest.raises(KafkaError, match="_UNSUPPORTED_FEATURE"):
            admin.groups()
        with pytest.raises(KafkaError, match="DescribeConfigs"):
            admin.settings("orders")
