"""The manual does what it says: every shell and Python block runs, every other one is what its fence calls it."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.manual import ATTRIBUTES, DOCS, PageRun, blocks_of, check_syntax, pages

BLOCKS = {page: blocks_of(page) for page in pages()}
BROKER = ("localhost:9092", "localhost:9093", "localhost:9094", "localhost:9095", "LocalKafka")


def runnable() -> list[object]:
    """The pages that have something to run, those that need real Kafka marked so."""
    named = {page: "".join(block.text for block in blocks if block.runs) for page, blocks in BLOCKS.items()}
    return [
        pytest.param(page, marks=[pytest.mark.broker] if any(word in text for word in BROKER) else [])
        for page, text in named.items()
        if text
    ]


@pytest.mark.timeout(300)  # each block has its own limit
@pytest.mark.parametrize("page", runnable())
def test_the_blocks_of_a_page_run_in_order(page: str, page_run: PageRun) -> None:
    for block in BLOCKS[page]:
        if block.runs or "save" in block.attributes:
            page_run.run(block)


@pytest.mark.parametrize("page", [page for page, blocks in BLOCKS.items() if blocks])
def test_every_block_is_what_its_fence_calls_it(page: str) -> None:
    for block in BLOCKS[page]:
        check_syntax(block)
        assert set(block.attributes) <= ATTRIBUTES, f"{block.where} says {sorted(block.attributes)}"
        assert "save" not in block.attributes or len(block.attributes) == 1, f"{block.where} is saved, which is not run"


def test_no_block_is_left_out() -> None:
    for blocks in BLOCKS.values():
        for number, block in enumerate(blocks):
            if "save" in block.attributes:
                later = "".join(other.text for other in blocks[number + 1 :] if "no" not in other.attributes)
                assert Path(block.attributes["save"]).name.partition(".")[0] in later, (
                    f"{block.where} is saved, and nobody runs it"
                )
            reason = block.attributes.get("no", "")
            if reason.startswith("by "):
                assert (DOCS.parent / reason.removeprefix("by ")).exists(), f"{block.where}: {reason}"
            else:
                assert "no" not in block.attributes or reason, f"{block.where} does not say why it is not run"
