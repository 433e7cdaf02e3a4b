"""A persister in a process of its own, for tests that end it by a signal: ``python persister_worker.py JSON``."""

from __future__ import annotations

import json
import logging
import sys

from rdknotify import Persister, PostgresSink, SQLiteSink

if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(message)s")
    job = json.loads(sys.argv[1])
    database = job["database"]
    persister = Persister(
        job["url"],
        job["topics"],
        group=job["group"],
        sink=PostgresSink(database) if database.startswith("postgresql:") else SQLiteSink(database),
        batch_size=1000,
        max_wait=0.2,
        config=job["config"],
        **job["options"],
    )
    persister.run()
    counts = persister.counts
    print(json.dumps({"stored": counts.stored, "duplicates": counts.duplicates, "received": counts.received}))
