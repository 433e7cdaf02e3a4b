import rdknotify
from rdknotify.envelope import decode
from rdknotify.sinks import Column, Schema


def change(record):
    """The values of a row. What raises is no change of an instance: a dead letter, with the error as its reason."""
    notification = decode(record.value)
    instance = notification.payload
    return (
        notification.message_id,
        notification.timestamp,
        instance["instance_id"],
        instance["state"],
        int(instance["memory_mb"]),
    )


persister = rdknotify.Persister(
    "kafka://localhost:9092",
    ["notifications.info"],
    group="instances",
    sink=rdknotify.SQLiteSink("instances.db", table="changes"),
    schema=Schema(
        own=(
            Column("message_id", "text"),
            Column("at", "timestamp"),
            Column("instance", "text"),
            Column("state", "text"),
            Column("memory_mb", "integer"),
        ),
        fill=change,
        message_id="message_id",  # a second row with the same one is left out
    ),
    dead_letter="./dead-letters.jsonl",
)
persister.run()
