"""Debug logs of Java as recordings: ``-Djavax.net.debug`` of every JSSE since Java 7, and what BCJSSE logs.

:func:`read_java_log` reads a file line by line and gives a recording for each TLS conversation in it, as one side saw
it. The files here, in the order of the way that a line goes:

    lines.py           bytes to lines; prefixes of wrappers and agents
    jsse.py            the form with bars and brackets (Java 8u261 and later)
    outline.py         and the bodies in its brackets: their outline,
    handshakes.py      and the messages in them
    classic.py         the form of Java 7 and early 8
    bouncy.py          BCJSSE
    conversations.py   whose line it is, and what becomes of it

A log holds less than a wire, and what it does not hold is absent from the recording
(:mod:`countersign.recorder.wire.told`). It is read in one pass and in bounded memory, whatever its size. Nothing in it
raises.
"""

from countersign.recorder.files.javalog.exceptions import kept as without_credentials
from countersign.recorder.files.javalog.lines import decoded, read_blocks
from countersign.recorder.files.javalog.reading import Hearing, looks_like_text, read_java_log

__all__ = ["Hearing", "decoded", "looks_like_text", "read_blocks", "read_java_log", "without_credentials"]
