"""How fast the decoder is by itself: handshakes a second, and bytes of bulk data a second through record framing.

Real handshakes are made in memory and decoded again and again on one core: as a leg of which nobody has the keys, with
a key log, with every field of every message read as well, and with all of it made JSON. Bulk data is 16 KiB records
behind a handshake, in slices as they come from a socket, of which only the headers are looked at.

    python -m bench.decoding --seconds 3 --json
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from functools import partial
from typing import TYPE_CHECKING

from OpenSSL import SSL

from countersign.recorder.wire.events import Message, Side
from countersign.recorder.wire.leg import LegDecoder
from countersign.recorder.wire.reading import LegReading, read_leg
from tests.recorder.tls_pairs import pair

if TYPE_CHECKING:
    from collections.abc import Callable

    from countersign.recorder.wire.secrets import KeyLog
    from tests.recorder.tls_pairs import Pair

VERSIONS = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}
SLICE = 64 << 10
RECORD = b"\x17\x03\x03\x40\x00" + bytes(16384)


def talked(version: int) -> Pair:
    made = pair(version=version)
    made.run()
    made.close()
    return made


def decode(log: list[tuple[Side, bytes]], keylog: KeyLog | None) -> list[Message]:
    decoder = LegDecoder(keylog=keylog)
    events = [event for side, data in log for event in decoder.receive(side, data, 0.0)]
    for side in Side:
        events += decoder.end(side, 0.0)
    return [event for event in events if isinstance(event, Message)]


def read(log: list[tuple[Side, bytes]], keylog: KeyLog | None) -> LegReading:
    return read_leg(decode(log, keylog))


def show(log: list[tuple[Side, bytes]], keylog: KeyLog | None) -> None:
    for message in read(log, keylog).messages:
        _ = message.fields


def a_second(work: Callable[[], object], seconds: float) -> float:
    """How often it is done in a second of CPU."""
    work()
    begun = time.process_time()
    count = 0
    while (took := time.process_time() - begun) < seconds:
        work()
        count += 1
    return count / took


def bulk(seconds: float) -> float:
    """Bytes of application data a second, of one side, without keys."""
    made = talked(VERSIONS["1.2"])
    decoder = LegDecoder()
    for side, data in made.log[:-2]:
        decoder.receive(side, data, 0.0)
    stream = RECORD * 64
    slices = [memoryview(stream)[at : at + SLICE] for at in range(0, len(stream), SLICE)]

    def work() -> None:
        for part in slices:
            decoder.receive(Side.SERVER, part, 0.0)

    return a_second(work, seconds) * len(stream)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3, help="of CPU for each figure (default: 3)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    asked = parser.parse_args()
    rates: dict[str, float] = {}
    for name, version in VERSIONS.items():
        made = talked(version)
        rates[f"TLS {name}, no keys"] = a_second(partial(decode, made.log, None), asked.seconds)
        rates[f"TLS {name}, opened"] = a_second(partial(decode, made.log, made.keylog), asked.seconds)
        rates[f"TLS {name}, no keys, read"] = a_second(partial(read, made.log, None), asked.seconds)
        rates[f"TLS {name}, opened, read"] = a_second(partial(read, made.log, made.keylog), asked.seconds)
        rates[f"TLS {name}, opened, read, shown"] = a_second(partial(show, made.log, made.keylog), asked.seconds)
    framing = bulk(asked.seconds)
    if asked.json:
        report = {"handshakes_a_second": rates, "bulk_bytes_a_second": framing, "python": platform.python_version()}
        print(json.dumps(report))
        return
    for name, rate in rates.items():
        print(f"{name:<32} {rate:8,.0f} handshakes a second")
    print(f"{'bulk data, framed':<32} {framing / 1e9:8.2f} GB a second")


if __name__ == "__main__":
    main()
