"""Errors for a person. The type says who is at fault; the text says what was attempted, expected, came, and what to do.

What a peer does on the wire is never one of these: that is recorded (:mod:`countersign.recorder`).
"""

import os


class CountersignError(Exception):
    """What the command line prints as one line, without a traceback."""

    exit_code = 1


class UserError(CountersignError):
    """The user's input is at fault: a flag, a file that was named, a value in it."""

    exit_code = 2


class NothingCalledSo(UserError):  # noqa: N818 - an answer
    """What was named is no recording of the store."""


class AnswerIsNo(UserError):  # noqa: N818 - an answer
    """The usage was right, and what was asked for is not in what was named. Scripts tell it from a mistake."""

    exit_code = 1


class EnvironmentFault(CountersignError):  # noqa: N818 - not an error of the program
    """The machine is at fault: a port is taken, a directory is not writable, a store is corrupt."""

    exit_code = 3


def words_of(wrong: OSError) -> str:
    """What the system says of a failed call, as the end of a sentence: in lower case, without number and path.

    The words that asyncio has of its own name an address and no reason; a resolver's and OpenSSL's numbers are none of
    the system's.
    """
    from socket import gaierror
    from ssl import SSLError

    words: str | None
    if isinstance(wrong, SSLError):
        words = wrong.reason
    elif wrong.errno and not isinstance(wrong, gaierror):
        words = os.strerror(wrong.errno)
    else:
        words = wrong.strerror
    return (words or str(wrong)).lower()
