"""Make the files beside this one from the text of RFC 8448: ``python tests/recorder/rfc8448/extract.py rfc8448.txt``.

A file a trace, a value a line in the order of the RFC: what it is, a colon, its bytes as hex. Of a record there are
two values, what is in it and the whole of it; of an expansion three, the secret, the context and what came out; of
traffic keys three, the secret, the key and the IV.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
TRACES = {
    3: "simple-1-rtt",
    4: "resumed-0-rtt",
    5: "hello-retry-request",
    6: "client-authentication",
    7: "compatibility-mode",
}
_PAGE_BREAK = re.compile(r"^(?:Thomson  .*\[Page \d+\]|RFC 8448  .*|\f)$")
_SECTION = re.compile(r"^(\d)\.  (.+)$")
_STEP = re.compile(r"^   \{(client|server)\}  (.+)$")
_VALUE = re.compile(r"^      ([^:(]+) \((\d+) octets\):  (.*)$")


class Step(NamedTuple):
    """``{side} doing: values``."""

    side: str
    doing: str
    values: dict[str, bytes]


def main(rfc: Path) -> None:
    for number, (title, steps) in read(rfc.read_text()).items():
        lines = [line for step in steps for line in shown(step)]
        head = f"# RFC 8448 section {number}: {title}\n"
        (HERE / f"{TRACES[number]}.txt").write_text(head + "".join(f"{line}\n" for line in lines))


def read(text: str) -> dict[int, tuple[str, list[Step]]]:
    """The steps of each trace with their values."""
    traces: dict[int, tuple[str, list[Step]]] = {}
    steps: list[Step] = []
    name, size, digits = "", 0, ""
    for line in text.replace("\f", "\n").splitlines():
        if _PAGE_BREAK.match(line) or not line:
            continue
        if section := _SECTION.match(line):
            steps = []
            if int(section[1]) in TRACES:
                traces[int(section[1])] = (section[2], steps)
        elif step := _STEP.match(line):
            steps.append(Step(step[1], step[2].rstrip(":"), {}))
        elif value := _VALUE.match(line):
            name, size, digits = value[1], int(value[2]), value[3].replace("(empty)", "")
        elif steps and name and re.fullmatch(r" {9}[0-9a-f ]+", line):
            digits += line
        else:
            name = ""
        if name and len(bytes.fromhex(digits)) == size:
            steps[-1].values[name] = bytes.fromhex(digits)
            name = ""
    return traces


def shown(step: Step) -> list[str]:
    side, doing, values = step
    if "complete record" in values:
        return [f"{side} {doing.removeprefix('send ')}: {_hex(values, 'payload', 'complete record')}"]
    if doing.startswith("construct"):
        (name,) = values
        return [f"{side} message {name}: {_hex(values, name)}"]
    if "key expanded" in values:
        return [f"{side} {doing.removeprefix('derive ')}: {_hex(values, 'PRK', 'key expanded', 'iv expanded')}"]
    if "expanded" in values:
        label = re.search('"(tls13 [^"]+)"', doing)
        name = label[1] if label else "tls13 finished"
        return [f"{side} expand {name}: {_hex(values, 'PRK', 'hash', 'expanded')}"]
    return []


def _hex(values: dict[str, bytes], *names: str) -> str:
    return " ".join(values[name].hex() or "-" for name in names)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
