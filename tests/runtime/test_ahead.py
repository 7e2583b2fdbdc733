from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from runtime.loop import Ahead

WAIT_S = 30.0


def test_gives_every_item_in_order_and_then_stays_at_its_end():
    with Ahead(range(100)) as items:
        assert list(items) == list(range(100))
        assert list(items) == []


def test_an_error_comes_after_the_items_before_it_and_once():
    def breaking() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("broke")

    with Ahead(breaking()) as items:
        assert [next(items), next(items)] == [1, 2]
        with pytest.raises(OSError, match="broke"):
            next(items)
        assert list(items) == []


def test_makes_the_next_item_while_the_caller_has_this_one_and_not_the_one_after():
    made: list[int] = []
    is_made = threading.Semaphore(0)

    def counting() -> Iterator[int]:
        for number in range(10):
            made.append(number)
            is_made.release()
            yield number

    with Ahead(counting()) as items:
        assert is_made.acquire(timeout=WAIT_S)
        assert made == [0]  # waits until that is taken
        assert next(items) == 0
        assert is_made.acquire(timeout=WAIT_S)
        assert made == [0, 1]
        assert not is_made.acquire(timeout=0.05)


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_close_ends_the_thread_wherever_it_is(taken):
    before = threading.active_count()
    with Ahead(iter(int, 1)) as items:
        for _ in range(taken):
            next(items)
    items.close()
    assert threading.active_count() == before
    assert list(items) in ([], [0])  # what was made by then, and no wait for ever


def test_close_does_not_wait_for_ever_for_an_item_that_never_comes():
    stuck, freed = threading.Event(), threading.Event()

    def silent() -> Iterator[int]:
        stuck.set()
        freed.wait(WAIT_S)
        yield 0

    items = Ahead(silent(), "silent")
    assert stuck.wait(WAIT_S)
    items.close()
    freed.set()
    for thread in threading.enumerate():
        if thread.name == "silent":
            thread.join(WAIT_S)
    assert "silent" not in {thread.name for thread in threading.enumerate()}


def test_a_chain_ends_although_its_last_link_waits_for_the_first():
    freed = threading.Event()

    def silent() -> Iterator[int]:
        freed.wait(WAIT_S)
        yield 0

    first = Ahead(silent(), "first")
    second = Ahead((item for item in first), "second")
    second.close()
    first.close()
    for thread in threading.enumerate():
        if thread.name == "second":
            thread.join(WAIT_S)
    assert "second" not in {thread.name for thread in threading.enumerate()}
    freed.set()
