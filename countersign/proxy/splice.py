"""What passes through unwatched, moved by the kernel: out of one socket, through a pipe, into the other.

Once enough has been seen of a connection that passes through, its bytes need not come to us. A :class:`Splice` is one
direction of it. It takes the sockets over from their streams, by descriptors of its own, for the event loop lets nobody
watch a transport's. The source's stream stays paused from then on, and learns from here how the peer's bytes ended.

A pipe holds what one side has sent and the other does not take. It is taken from a pool for that long only, so a
connection in which nothing waits holds none, and back-pressure is a pipe that is full: its source is not read.

It begins when nothing is on its way in a buffer of ours, and only where it can: not where something is done to the
bytes on purpose (a lane), not without descriptors, and not where there is no splice(2). Then all stays as it was.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

from countersign.recorder.recording import Ending

if TYPE_CHECKING:
    from collections.abc import Callable

    from countersign.proxy.relay import Relay
    from countersign.proxy.stream import Stream

CAN_SPLICE = sys.platform == "linux" and hasattr(os, "splice")
_PIPE = 64 * 1024  # bytes that are moved at once, and that a pipe holds unless told otherwise (pipe(7))
_POOLED = 16
_TURN = 16  # pipes full of bytes that are moved before others have their turn
_AGAIN = 0.05  # seconds until it is tried again to get a pipe

Pipe = tuple[int, int]
"""Where it is read and where it is written."""


class Pipes:
    """Empty pipes, for all connections of an event loop."""

    def __init__(self) -> None:
        self._idle: list[Pipe] = []

    def take(self) -> Pipe:
        """An empty pipe. Raises :class:`OSError` where there are no descriptors for one."""
        if self._idle:
            return self._idle.pop()
        made = os.pipe()
        for end in made:
            os.set_blocking(end, False)
        return made

    def give(self, pipe: Pipe) -> None:
        """It is empty again."""
        if len(self._idle) < _POOLED:
            self._idle.append(pipe)
        else:
            self.drop(pipe)

    def drop(self, pipe: Pipe) -> None:
        """It goes, with what is in it."""
        for end in pipe:
            os.close(end)

    def close(self) -> None:
        while self._idle:
            self.drop(self._idle.pop())


class Splice:
    """From one socket into the other. ``begun`` is called when it begins, ``moved`` with each number of bytes.

    While a pipe is held, nothing is read.
    """

    def __init__(
        self,
        relay: Relay,
        source: Stream,
        destination: Stream,
        pipes: Pipes,
        *,
        begun: Callable[[], None],
        moved: Callable[[int], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._relay = relay
        self._source = source
        self._destination = destination
        self._pipes = pipes
        self._begun = begun
        self._moved = moved
        self._from = self._to = -1
        self._pipe: Pipe | None = None
        self._inside = 0
        self._again: asyncio.TimerHandle | None = None
        self._over = not CAN_SPLICE
        self.waiting = False
        """It has been asked for, and begins as soon as nothing is on its way."""

    def ask(self) -> None:
        """Begin as soon as it can."""
        source, destination = self._source, self._destination
        if self._over or self.waiting or self._from >= 0 or source.ending is not None or source.pouring:
            return
        if not (source.lendable and destination.lendable):
            self._over = True
            return
        self.waiting = True
        source.pause()
        destination.tell_when_sent()
        self.go_on()

    def go_on(self) -> None:
        """Begin, if nothing is on its way any more."""
        if not self.waiting or self._destination.sending:
            return
        self.waiting = False
        try:
            self._from = self._source.lend()
            self._to = self._destination.lend()
        except OSError:
            self.close()
            self._destination.tell_when_full()
            self._source.resume()
            return
        self._begun()
        self._listen()

    def _listen(self) -> None:
        self._loop.add_reader(self._from, self._readable)

    def close(self) -> None:
        """Stop and let both sockets go; nothing is told to anybody, and what is still in the pipe is lost."""
        self._over, self.waiting = True, False
        if self._again is not None:
            self._again.cancel()
        if self._from >= 0:
            self._loop.remove_reader(self._from)
            os.close(self._from)
        if self._to >= 0:
            self._loop.remove_writer(self._to)
            os.close(self._to)
        self._from = self._to = -1
        if self._pipe is not None:
            (self._pipes.drop if self._inside else self._pipes.give)(self._pipe)
            self._pipe = None

    def _readable(self) -> None:
        try:
            self._pipe = self._pipes.take()
        except OSError:
            self._loop.remove_reader(self._from)
            self._again = self._loop.call_later(_AGAIN, self._listen)
            return
        for _ in range(_TURN):
            try:
                count = _splice(self._from, self._pipe[1], _PIPE)
            except BlockingIOError:
                break
            except OSError:
                self._end(Ending.RESET)
                return
            if not count:
                self._end(Ending.FIN)
                return
            self._inside = count
            self._relay.moved()
            self._moved(count)
            if not self._pass_on():
                return
        self._pipes.give(self._pipe)
        self._pipe = None

    def _pass_on(self) -> bool:
        """Into the other socket with what is in the pipe; whether the pipe is empty."""
        assert self._pipe is not None
        try:
            while self._inside:
                self._inside -= _splice(self._pipe[0], self._to, self._inside)
        except BlockingIOError:
            self._loop.remove_reader(self._from)
            self._loop.add_writer(self._to, self._writable)
            return False
        except OSError:
            self._gone()
            return False
        return True

    def _writable(self) -> None:
        self._relay.moved()
        if self._pass_on():
            assert self._pipe is not None
            self._pipes.give(self._pipe)
            self._pipe = None
            self._loop.remove_writer(self._to)
            self._listen()

    def _end(self, how: Ending) -> None:
        """No more bytes come."""
        self.close()
        self._source.lent_ended(how)

    def _gone(self) -> None:
        """The destination takes nothing any more: it has reset the connection, which nobody else may have noticed."""
        self.close()
        if self._destination.ending is None:
            self._destination.lent_ended(Ending.RESET)
        else:
            self._source.abort()
            self._relay.finish()


if sys.platform == "linux":
    _FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK

    def _splice(source: int, destination: int, count: int) -> int:
        return os.splice(source, destination, count, flags=_FLAGS)

else:

    def _splice(source: int, destination: int, count: int) -> int:
        raise NotImplementedError("splice(2) is Linux's")
