"""One run of one client: ``python -m benchmarks.clients NAME ROLE JOB``, the job as JSON."""

from __future__ import annotations

import json
import sys

from benchmarks.clients import find
from benchmarks.clients.base import Job

if __name__ == "__main__":
    name, role, words = sys.argv[1:]
    find(name, role)(Job(**json.loads(words)))
