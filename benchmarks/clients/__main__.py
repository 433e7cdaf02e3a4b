"""One run of one client: ``python -m benchmarks.clients NAME ROLE JOB``, the job as JSON."""

from __future__ import annotations

import json
import sys

from benchmarks.clients import find
from benchmarks.clients.base import Job, solo_speed

if __name__ == "__main__":
    name, role, words = sys.argv[1:]
    job, client = Job(**json.loads(words)), find(name, role)
    if job.busy:
        job.more["solo"] = solo_speed()
    client(job)
