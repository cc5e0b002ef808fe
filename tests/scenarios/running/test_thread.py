"""Work in the loop of another thread, waited for: Ctrl-C ends the wait, wherever Python is when it comes."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading

import pytest

from countersign.errors import UserError
from countersign.scenarios.running.thread import LoopThread

INTERRUPTED = """
import asyncio, os, signal, threading, weakref
from countersign.scenarios.running import thread

SECONDS = 60  # after which the work is over by itself, where nothing has ended it

async def work(*deeds):
    try:
        for deed in deeds:
            deed()
        await asyncio.sleep(SECONDS)
    except asyncio.CancelledError:
        print("cancelled")
        raise

def print(*words):
    os.write(1, (" ".join(map(str, words)) + chr(10)).encode())  # of one thread, whole

def interrupt():
    os.kill(os.getpid(), signal.SIGINT)

there = thread.LoopThread("test")
"""

BY_NOBODY_WOKEN = """
# The main thread does not get the signal, so that it blocks on, as it does where a signal comes just before it blocks.
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
try:
    there.call(work(interrupt), what="test")
except KeyboardInterrupt:
    print("interrupted", signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""

WHERE_IT_GOES_NOWHERE = """
class Thing:
    pass

submit = asyncio.run_coroutine_threadsafe

def submit_in_the_callback_of_a_weak_reference(*given):
    thing = Thing()
    reference = weakref.ref(thing, lambda _: interrupt())
    del thing
    return submit(*given)

asyncio.run_coroutine_threadsafe = submit_in_the_callback_of_a_weak_reference
try:
    there.call(work(), what="test")
except KeyboardInterrupt:
    print("interrupted", signal.getsignal(signal.SIGINT) is signal.default_int_handler)
asyncio.run_coroutine_threadsafe = submit
"""

BEHIND_THE_RESULT = """
async def done():
    return 1

class Done(thread.SimpleQueue):
    def get(self, **how):
        found = super().get(**how)
        interrupt()
        return found

queue, thread.SimpleQueue = thread.SimpleQueue, Done
try:
    there.call(done(), what="test")
except KeyboardInterrupt:
    print("interrupted", signal.getsignal(signal.SIGINT) is signal.default_int_handler)
thread.SimpleQueue = queue
"""

OF_OTHERS = """
class Ours(Exception):
    pass

def ours(*_):
    raise Ours

signal.signal(signal.SIGINT, ours)
try:
    there.call(work(interrupt), what="test")
except Ours:
    print("interrupted", signal.getsignal(signal.SIGINT) is ours)
"""

AS_IT_ENDS = """
join = threading.Thread.join

def joined(self, *given):
    interrupt()
    join(self, *given)

threading.Thread.join = joined
try:
    there.close()
except KeyboardInterrupt:
    print("interrupted", not there.here and there._loop.is_closed())
"""


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (BY_NOBODY_WOKEN, {"cancelled", "interrupted True"}),
        (WHERE_IT_GOES_NOWHERE, {"interrupted True"}),
        (BEHIND_THE_RESULT, {"interrupted True"}),
        (OF_OTHERS, {"cancelled", "interrupted True"}),
        (AS_IT_ENDS, {"interrupted True"}),
    ],
    ids=["a block that it has not woken", "a callback", "behind the result", "a handler of others", "the end"],
)
def test_ctrl_c_ends_a_wait_wherever_it_comes(script: str, said: set[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED + script + "\nthere.close()\n"],
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
        start_new_session=True,
    )
    assert said <= {*done.stdout.splitlines()}, done.stderr
    assert "Exception ignored" not in done.stderr


def test_what_is_not_the_main_thread_waits_as_well_and_touches_no_handler() -> None:
    there, found = LoopThread("test"), []

    async def work() -> int:
        return 3

    def wait() -> None:
        found.append(there.call(work(), what="test"))

    before = signal.getsignal(signal.SIGINT)
    waiting = threading.Thread(target=wait)
    waiting.start()
    waiting.join()
    there.close()
    assert found == [3]
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(UserError, match="cannot test: the proxy was stopped"):
        there.call(work(), what="test")


def test_what_the_work_raises_comes_out_though_it_be_a_timeout() -> None:
    there = LoopThread("test")

    async def work() -> None:
        await asyncio.sleep(0.25)  # longer than a look for signals
        raise TimeoutError("of the work")

    with pytest.raises(TimeoutError, match="of the work"):
        there.call(work(), what="test")
    there.close()
