"""LocalPostgres: data that outlast a crash of the server, a server that does not outlast its owner."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, TimeoutError
from pathlib import Path

import pytest
from support.postgres import query
from support.processes import processes_of
from support.waiting import until

from rdknotify.testing import LocalPostgres, LocalPostgresError

psycopg = pytest.importorskip("psycopg", exc_type=ImportError)

OWNER = """
import sys, time
from rdknotify.testing import LocalPostgres
with LocalPostgres() as postgres:
    if "paused" in sys.argv:
        postgres.pause()
    print(postgres.folder, flush=True)
    time.sleep(60)
"""


def test_what_was_committed_outlasts_a_crash_and_a_stop(postgres: LocalPostgres, dsn: str) -> None:
    query(dsn, "CREATE TABLE numbers AS SELECT 1 AS number")
    for end in (postgres.kill, postgres.stop):
        end()
        postgres.start()
        assert query(dsn, "SELECT * FROM numbers") == [(1,)]


def test_a_server_that_is_paused_does_not_answer(postgres: LocalPostgres, dsn: str) -> None:
    with psycopg.connect(dsn) as session, ThreadPoolExecutor() as pool:
        postgres.pause()
        answer = pool.submit(session.execute, "SELECT 1")
        with pytest.raises(TimeoutError):
            answer.result(0.5)
        with pytest.raises(psycopg.OperationalError, match="timeout"):
            psycopg.connect(dsn, connect_timeout=2)
        postgres.resume()
        assert answer.result(10).fetchall() == [(1,)]
    postgres.pause()
    postgres.start()
    assert query(dsn, "SELECT 1") == [(1,)]


@pytest.mark.usefixtures("postgres")  # so that it is skipped where there is none
@pytest.mark.parametrize("state", ["running", "paused"])
def test_no_server_outlives_an_owner_that_was_killed(state: str) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, state], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    with owner:
        folder = Path(owner.stdout.readline().strip())
        assert processes_of(owner.pid)
        owner.kill()
    until(lambda: not processes_of(owner.pid), "the server is gone")
    assert not (folder / "data" / "postmaster.pid").exists(), "it was not shut down but killed: its memory stays behind"
    subprocess.run(["rm", "-rf", str(folder)], check=True)


def test_a_missing_server_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("rdknotify.testing.postgres.DEBIAN", tmp_path)
    postgres = LocalPostgres()
    with pytest.raises(LocalPostgresError, match=r"Debian: apt install postgresql"):
        postgres.start()
    postgres.close()
    with pytest.raises(LocalPostgresError, match="was not started"):
        _ = postgres.dsn


def test_a_forked_child_leaves_the_server_alone(postgres: LocalPostgres, dsn: str) -> None:
    child = os.fork()
    if child == 0:
        postgres.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert query(dsn, "SELECT 1") == [(1,)]
