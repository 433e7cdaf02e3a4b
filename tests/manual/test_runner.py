"""The runner of the manual's blocks: what it lets pass, and what it does not."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.manual import Block, PageRun, blocks_of, check_syntax


def run(folder: Path, page: str) -> None:
    running = PageRun(folder, lambda text: text.replace("localhost:9092", "there:1"))
    try:
        for block in blocks_of("page.md", page.replace("~~~", "```")):
            running.run(block)
    finally:
        running.kill()


def test_blocks_share_folder_and_environment_and_begin_where_the_last_ended(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
~~~sh
mkdir inner; cd inner; export WHERE="localhost:9092 and
more"
~~~

1. Indented, as in a list:

   <!-- run: prints="there:1 and" -->
   ~~~python
   import os
   print(os.environ["WHERE"], os.getcwd(), file=open("seen", "w"))
   print(os.environ["WHERE"])
   ~~~

<!-- run: save="other.py" -->
~~~python
one = 1
~~~

~~~ini title="service.conf"
[DEFAULT]
~~~

~~~sh
grep -q DEFAULT service.conf
grep -q inner seen
python other.py
~~~

~~~python
two = 2
~~~

<!-- run: continues prints=2 -->

~~~python
print(two)
~~~
""",
    )


def test_what_runs_for_ever_is_stopped_when_its_marker_shows(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
<!-- run: until=begun -->
~~~sh
echo begun; sleep 1000
~~~

<!-- run: meanwhile ready=begun when="test -s seen" prints=ended -->
~~~python
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(print("ended")))
print("begun")
signal.pause()
~~~

~~~sh
echo seen > seen
~~~
""",
    )


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("~~~sh\nfalse\ntrue\n~~~", "page.md:1: it ended with 1"),
        ("\n~~~python\nraise SystemExit(3)\n~~~", "page.md:2: it ended with 3"),
        ("<!-- run: exit=3 -->\n~~~sh\ntrue\n~~~", "it ended with 0"),
        ('<!-- run: prints="7 sent" -->\n~~~sh\necho 6 sent\n~~~', "it did not print '7 sent'; it said:\n6 sent"),
        ("<!-- run: until=never -->\n~~~sh\necho ever\n~~~", "it ended with 0 and did not print 'never'"),
        (
            "<!-- run: until=a -->\n~~~sh\ntrap 'exit 5' TERM; echo a; while true; do sleep 0.1; done\n~~~",
            "ended with 5",
        ),
    ],
)
def test_a_block_that_does_not_do_what_it_should_fails(page: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError) as failed:
        run(tmp_path, page)
    assert said in str(failed.value)


@pytest.mark.parametrize(
    ("language", "good", "bad"),
    [
        ("sh", "if true; then ls; fi", "if true; then ls"),
        ("python", "x = 1", "x ="),
        ("json", "{}", "{"),
        ("yaml", "a: [1]", "a: [1"),
        ("ini", "[Service]\nExecStart=/bin/true\n", "[Service]\nExecStrat=/bin/true\n"),
        ("dockerfile", "FROM python:3.13\nRUN a \\\n  b", "FROM python\nRAN a"),
        ("properties", "a.b=c", "a.b"),
    ],
)
def test_other_blocks_are_looked_at(language: str, good: str, bad: str) -> None:
    check_syntax(Block("page.md", 1, language, good))
    with pytest.raises(AssertionError, match=r"docs/page\.md:1"):
        check_syntax(Block("page.md", 1, language, bad))


def test_a_fence_of_an_unknown_language_is_refused() -> None:
    with pytest.raises(AssertionError, match="is none of"):
        check_syntax(Block("page.md", 1, "pyhton", ""))
