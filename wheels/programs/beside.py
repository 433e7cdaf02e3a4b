"""Run in the environment of a wheel: rdknotify and confluent-kafka in one process, each with a librdkafka of its own.

Arguments: which is imported first, "local" or "global" (are the symbols of each offered to the other?), bootstrap
servers, topic. Each sends records and reads those of both.
"""

import importlib
import os
import sys

COUNT = 100
TIMEOUT = 60.0  # seconds, which an emulated processor may need

first, symbols, bootstrap, topic = sys.argv[1:]
if symbols == "global":
    sys.setdlopenflags(os.RTLD_NOW | os.RTLD_GLOBAL)
for name in sorted(("rdknotify._rdknotify", "confluent_kafka"), key=lambda name: not name.startswith(first)):
    importlib.import_module(name)

import confluent_kafka  # noqa: E402 - the order is what is tried

import rdknotify  # noqa: E402

delivered: list[object] = []
other = confluent_kafka.Producer({"bootstrap.servers": bootstrap})
with rdknotify.Producer(f"kafka://{bootstrap}") as producer:
    sent = producer.send_batch(topic, [b"ours %d" % number for number in range(COUNT)])
    for number in range(COUNT):
        other.produce(topic, b"theirs %d" % number, on_delivery=lambda error, record: delivered.append(error))
    sent.result(TIMEOUT).raise_for_failures()
    other.flush(TIMEOUT)
if delivered != [None] * COUNT:
    sys.exit(f"confluent-kafka delivered {delivered.count(None)} of {COUNT} records")

expected = {b"%s %d" % (whose, number) for whose in (b"ours", b"theirs") for number in range(COUNT)}
ours: set[bytes | None] = set()
with rdknotify.Consumer(f"kafka://{bootstrap}", [topic], f"{topic}-ours") as consumer:
    while ours != expected and (batch := consumer.poll(timeout=TIMEOUT)):
        ours.update(batch.values())
        batch.commit()
theirs: set[bytes | None] = set()
group = {"bootstrap.servers": bootstrap, "group.id": f"{topic}-theirs", "auto.offset.reset": "earliest"}
reader = confluent_kafka.Consumer(group)
reader.subscribe([topic])
while theirs != expected and (record := reader.poll(TIMEOUT)) is not None:
    if record.error():
        sys.exit(f"confluent-kafka could not read: {record.error()}")
    theirs.add(record.value())
reader.close()
if ours != expected or theirs != expected:
    sys.exit(f"of {len(expected)} records rdknotify read {len(ours)}, confluent-kafka {len(theirs)}")
print(f"{len(expected)} records")
