"""Kafka's command line tools by the names that its distribution gives them; its Maven artifacts bring no scripts."""

from __future__ import annotations

import re
from pathlib import Path

from rdknotify.testing.jars import find_jars, find_java

__all__ = ["NAMED", "bring_tools"]

_TOOLS = "org.apache.kafka.tools"
_CLASSES = {
    "kafka-acls.sh": f"{_TOOLS}.AclCommand",
    "kafka-configs.sh": "kafka.admin.ConfigCommand",
    "kafka-consumer-groups.sh": f"{_TOOLS}.consumer.group.ConsumerGroupCommand",
    "kafka-get-offsets.sh": f"{_TOOLS}.GetOffsetShell",
    "kafka-topics.sh": f"{_TOOLS}.TopicCommand",
}
NAMED = re.compile("|".join(map(re.escape, _CLASSES)))
"""Finds a tool in a text."""


def bring_tools(folder: Path) -> None:
    """Write a program for each tool into the folder."""
    folder.mkdir(exist_ok=True)
    java = f"{find_java()} -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp '{find_jars()}/*'"
    for name, main in _CLASSES.items():
        program = folder / name
        program.write_text(f'#!/bin/sh\nexec {java} {main} "$@"\n')
        program.chmod(0o755)
