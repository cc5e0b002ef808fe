"""Alerts that nobody's TLS library has sent (RFC 8446 6, RFC 5246 7.2)."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from countersign.proxy.faults.kinds import AtMessage, FaultKind, Note, Option, Proved, Right
from countersign.recorder.wire.events import Content
from countersign.recorder.wire.names import alert_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from countersign.proxy.faults.items import Item
    from countersign.proxy.faults.model import Place, WireFault

_LEVELS = {"warning": 1, "fatal": 2}


class Alert(FaultKind):
    """An alert, of any level and description, at any message."""

    name = "alert"
    says = "sends an alert before or after a message, under the keys that are in force there, and closes if it is fatal"
    right = "refuse"
    places: ClassVar[frozenset[Place]] = frozenset({"before", "after"})
    options: ClassVar[Mapping[str, Option]] = MappingProxyType(
        {
            "alert": Option(says="what it says", form="alert", default=40),
            "level": Option(
                says="how grave it calls itself", form="text", default="fatal", choices=("fatal", "warning")
            ),
            "goes_on": Option(says="what comes behind it is sent all the same", form="bool", default=False),
        }
    )

    def right_of(self, fault: WireFault) -> Right:
        """A warning may be overlooked, below TLS 1.3 (RFC 5246 7.2.2)."""
        return "either" if fault.options["level"] == "warning" else "refuse"

    def worker(self, fault: WireFault, note: Note) -> AtMessage:
        return _Alerting(self, fault, note)

    def shown(self, proved: Proved, fault: WireFault) -> str | None:
        description = fault.options["alert"]
        if any(one.content is Content.ALERT and one.code == description for one in proved.leg.messages):
            return None
        return f"no alert {alert_name(int(str(description)))} is among the messages of the {fault.leg} leg"


class _Alerting(AtMessage):
    def act(self, item: Item) -> Iterable[Item]:
        options, place = self.fault.options, self.fault.place
        epoch = item.then if place == "after" else item.epoch
        if not self.note.can_seal(epoch):
            return (item,)
        level, description = str(options["level"]), int(str(options["alert"]))
        alert = item.alert(_LEVELS[level], description, epoch=epoch)
        self.note.applied(f"sent the alert {alert_name(description)} ({level}) {place} the {item.name}", at=item.name)
        if level == "fatal" and not options["goes_on"]:
            return (item, alert, item.end()) if place == "after" else (alert, item.end())
        return (item, alert) if place == "after" else (alert, item)
