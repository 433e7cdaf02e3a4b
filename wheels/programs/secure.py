"""Run in the environment of a wheel: records go to a secure broker and back. Arguments: URL, topic, options as JSON."""

import json
import sys

from rdknotify import Consumer, Producer

COUNT = 100
TIMEOUT = 60.0  # seconds, which an emulated processor may need

url, topic, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
with Producer(url, **options) as producer:
    producer.send_batch(topic, [b"%d" % number for number in range(COUNT)]).result(TIMEOUT).raise_for_failures()
found: list[bytes | None] = []
with Consumer(url, [topic], f"{topic}-group", **options) as consumer:
    while len(found) < COUNT and (batch := consumer.poll(timeout=TIMEOUT)):
        found += batch.values()
        batch.commit()
if sorted(found, key=lambda value: int(value or b"-1")) != [b"%d" % number for number in range(COUNT)]:
    sys.exit(f"{len(found)} of {COUNT} records came back, or not once each")
print(f"{COUNT} records there and back")
