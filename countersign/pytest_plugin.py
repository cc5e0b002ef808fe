"""The pytest plugin: proxies under scenarios as a fixture, scenarios as markers, the ladder in a failing test's report.

    @pytest.mark.tls_scenario("missing-intermediate")
    def test_refuses_a_chain_with_a_gap(countersign):
        with countersign.attempt():
            requests.get(countersign.url, verify=countersign.ca)
        countersign.assert_refused()

    @pytest.mark.tls_scenarios("family:chain and not is:waiting")
    def test_does_what_is_right(countersign):
        countersign.run("curl", "-sS", "{url}")
        countersign.assert_right()

The proxy runs in a thread with an event loop of its own, so a test may block, and may be a coroutine of any framework
with whatever loop. What is kept for all tests (authorities, keys, the embedded target, the thread) is made when the
first test asks for it: this module imports nothing of ours before. Each xdist worker has its own.

A test that passes under a scenario that never was on the wire, or with no client at all, has tested nothing: that is an
error in its teardown.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from countersign.scenarios.catalogue import Catalogue
    from countersign.scenarios.model import Scenario
    from countersign.scenarios.running.house import House
    from countersign.scenarios.running.trial import ScenarioProxy

_DIRECTORIES = "countersign_scenarios"
_MOST_SESSIONS = 10  # whose ladders stand in a report
_LADDER_WIDTH = 110
_MARKERS = (
    "tls_scenario(id, ..., **how): the fixture countersign opens a proxy under this scenario; under each, if several.",
    "tls_scenarios(expression, **how): the same under each that fits, as in 'family:chain and not id:huge-*'.",
)


class Countersign:
    """What the fixture ``countersign`` is: it opens proxies, and stands for the one that was opened last.

    ``countersign.url`` is that proxy's url, and so on: see :class:`countersign.scenarios.running.trial.ScenarioProxy`.
    All are stopped when the test is over.
    """

    def __init__(self, house: House, **how: Any) -> None:
        self._house, self._how = house, how
        self.proxies: list[ScenarioProxy] = []

    def scenario(self, scenario: str | Scenario, **how: Any) -> ScenarioProxy:
        """A proxy under this scenario; ``how`` as :meth:`countersign.scenarios.running.house.House.open` takes it.

        What the test's marker says holds where ``how`` says nothing.
        """
        proxy = self._house.open(scenario, **{**self._how, **how})
        self.proxies.append(proxy)
        return proxy

    @property
    def proxy(self) -> ScenarioProxy:
        """The one that was opened last."""
        if not self.proxies:
            from countersign.errors import UserError

            raise UserError(
                "no proxy is open: mark the test with @pytest.mark.tls_scenario(ID), or call countersign.scenario(ID)"
            )
        return self.proxies[-1]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.proxy, name)


_used: pytest.StashKey[Countersign] = pytest.StashKey()
_passed: pytest.StashKey[bool] = pytest.StashKey()
_shown: pytest.StashKey[bool] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """One setting of the ini-file: where scenarios of one's own are."""
    parser.addini(_DIRECTORIES, type="paths", default=[], help="directories with scenarios besides the built-in ones")


def pytest_configure(config: pytest.Config) -> None:
    """The markers, for ``--strict-markers`` and ``--markers``."""
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)


# -- which scenarios ----------------------------------------------------------------------------------------------


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test becomes as many as its markers name scenarios."""
    one, many = (metafunc.definition.get_closest_marker(name) for name in ("tls_scenario", "tls_scenarios"))
    where = metafunc.definition.nodeid
    if one is None and many is None:
        return
    if one is not None and many is not None:
        raise pytest.Collector.CollectError(f"{where} has both markers, tls_scenario and tls_scenarios; expected one")
    if "countersign" not in metafunc.fixturenames:
        raise pytest.Collector.CollectError(
            f"{where} is marked with a scenario and does not use the fixture countersign, so it would test nothing"
        )
    if one is not None:
        _check_options(one, where)
        if not one.args or not all(isinstance(name, str) for name in one.args):
            raise pytest.Collector.CollectError(f"{where}: tls_scenario takes ids of scenarios, got {one.args!r}")
        if len(one.args) == 1:
            return
        names = list(one.args)
    else:
        assert many is not None
        _check_options(many, where)
        names = _selected(metafunc.config, many, where)
    metafunc.parametrize("tls_scenario", names, ids=names)


def _check_options(marker: pytest.Mark, where: str) -> None:
    """The marker's keywords are those of opening a proxy."""
    if not marker.kwargs:
        return
    from countersign.scenarios.model import nearest
    from countersign.scenarios.running.house import House

    known = set(inspect.signature(House.open).parameters) - {"self", "scenario"}
    for name in marker.kwargs.keys() - known:
        raise pytest.Collector.CollectError(
            f"{where}: {marker.name} has no keyword {name!r}{nearest(name, known)}; expected {', '.join(sorted(known))}"
        )


def _selected(config: pytest.Config, marker: pytest.Mark, where: str) -> list[str]:
    from countersign.errors import UserError
    from countersign.scenarios.selecting import select

    if len(marker.args) != 1 or not isinstance(marker.args[0], str):
        raise pytest.Collector.CollectError(f"{where}: tls_scenarios takes one expression, got {marker.args!r}")
    try:
        names = [scenario.id for scenario in select(_known(config), marker.args[0])]
    except UserError as wrong:
        raise pytest.Collector.CollectError(f"{where}: {wrong}") from None
    if not names:
        raise pytest.Collector.CollectError(
            f"{where}: {marker.args[0]!r} fits no scenario; `countersign scenario ls` lists them"
        )
    return names


def _known(config: pytest.Config) -> Catalogue:
    from countersign.scenarios.running.house import known_scenarios

    return known_scenarios(*config.getini(_DIRECTORIES))


# -- fixtures -----------------------------------------------------------------------------------------------------


@pytest.fixture
def tls_scenario(request: pytest.FixtureRequest) -> str | None:
    """The id of the scenario that the test is marked with; None where it has no marker."""
    marker = request.node.get_closest_marker("tls_scenario")
    return None if marker is None else str(marker.args[0])


@pytest.fixture(scope="session")
def _countersign_house() -> Iterator[House]:
    from countersign.scenarios.running.house import House

    with House() as house:
        yield house


@pytest.fixture
def countersign(
    request: pytest.FixtureRequest, tls_scenario: str | None, _countersign_house: House
) -> Iterator[Countersign]:
    """Proxies under scenarios; under that of the test's marker one is open already. See :class:`Countersign`."""
    from countersign.errors import CountersignError
    from countersign.scenarios.running.house import CannotBePut

    markers = (request.node.get_closest_marker(name) for name in ("tls_scenario", "tls_scenarios"))
    marker = next((each for each in markers if each is not None), None)
    how = {"directories": request.config.getini(_DIRECTORIES), **({} if marker is None else marker.kwargs)}
    used = request.node.stash[_used] = Countersign(_countersign_house, **how)
    wrong: CountersignError | None = None
    if tls_scenario is not None:
        try:
            used.scenario(tls_scenario)
        except CountersignError as error:
            wrong = error
    if isinstance(wrong, CannotBePut) and marker is not None and marker.name == "tls_scenarios":
        pytest.skip(str(wrong))
    if wrong is not None:
        pytest.fail(str(wrong), pytrace=False)
    yield used
    for proxy in used.proxies:
        proxy.close()
    if request.node.stash.get(_passed, False):
        _check(used)


def _check(used: Countersign) -> None:
    """A test that passed has tested something."""
    from countersign.scenarios.running.trial import NotOnTheWire

    wrong = ""
    for proxy in used.proxies:
        if proxy.answered_for and not proxy.recordings:  # it was asserted that nobody comes
            continue
        try:
            proxy.check_wire()
        except NotOnTheWire as error:
            wrong = str(error)
    if wrong:
        pytest.fail(wrong, pytrace=False)


# -- reports ------------------------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where a test fails that used proxies, its report gets what was on the wire."""
    report = yield
    if call.when == "call":
        item.stash[_passed] = report.passed
    used = item.stash.get(_used, None)
    if report.failed and used is not None and not item.stash.get(_shown, False):
        item.stash[_shown] = True
        report.sections += [_section(proxy) for proxy in used.proxies]
    return report


def _section(proxy: ScenarioProxy) -> tuple[str, str]:
    from countersign.errors import UserError
    from countersign.recorder.files.ladder import render_ladder

    title = f"countersign: {proxy.scenario.id}"
    try:
        recordings = proxy.recordings
    except UserError as gone:
        return title, str(gone)
    if not recordings:
        return title, "no client came"
    drawn = [render_ladder(each, width=_LADDER_WIDTH) for each in recordings[:_MOST_SESSIONS]]
    if len(recordings) > _MOST_SESSIONS:
        drawn.append(f"... and {len(recordings) - _MOST_SESSIONS} more sessions")
    return title, "\n\n".join(drawn)
