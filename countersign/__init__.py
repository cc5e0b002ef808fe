"""A TLS interception proxy and handshake recorder; what a program may use of it stands in ``__all__``.

Nothing is imported before it is used.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = ["__version__", "run", "running"]

if TYPE_CHECKING:
    from countersign.scenarios.running.house import run, running


def __getattr__(name: str) -> Any:
    if name in {"run", "running"}:
        from countersign.scenarios.running import house

        return getattr(house, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
