"""What the kit fetches once and keeps: Kafka's jars, toxiproxy."""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

__all__ = ["cache_folder", "fetched"]


def cache_folder() -> Path:
    """Where it is kept: ``RDKNOTIFY_CACHE``, else ``~/.cache/rdknotify``."""
    return Path(os.environ.get("RDKNOTIFY_CACHE") or "~/.cache/rdknotify").expanduser()


def fetched(name: str, fetch: Callable[[Path], Path], what: str, error: type[Exception]) -> Path:
    """The file or folder ``name`` of the cache, which ``fetch`` makes in the folder that it gets and returns.

    What is there is complete, however a fetch ended. Several processes may call it at once. ``what`` is for
    the ``error`` that is raised where there is no place for it.
    """
    target = cache_folder() / name
    try:
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(target.parent / "lock", "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # Maven's own repository does not bear two Mavens well
                if not target.exists():
                    with tempfile.TemporaryDirectory(prefix="fetch-", dir=target.parent) as work:
                        os.rename(fetch(Path(work)), target)
    except OSError as failure:
        reason = "the disk is full" if failure.errno == errno.ENOSPC else str(failure)
        elsewhere = "RDKNOTIFY_CACHE names another folder"
        raise error(f"no place for {what} in {target.parent}: {reason}; {elsewhere}") from None
    return target
