"""What the API shows of the store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from countersign.recorder.recording import Outcome, Recording, Status
from countersign.recorder.store import Store
from tests.web.controlled import Api, controlled_proxy

if TYPE_CHECKING:
    from collections.abc import Iterator

BEGAN = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    home = tmp_path_factory.mktemp("home")
    home.chmod(0o700)
    with controlled_proxy(home) as controlled:
        made = [
            Recording(
                id=f"{number:016x}",
                started=BEGAN + timedelta(seconds=number),
                ended=BEGAN + timedelta(seconds=number + 1),
                mode="reverse",
                action="intercept",
                sni="even.test" if number % 2 == 0 else "odd.test",
                outcome=Outcome(Status.ESTABLISHED, text="Established."),
            )
            for number in range(7)
        ]
        store = Store.open(home / "recordings.sqlite")
        store.put(made, owner=None)
        store.close()
        yield controlled


def test_summaries_come_in_pages_the_newest_first(api: Api) -> None:
    found, following = [], ""
    for _ in range(3):
        page = api.get(f"/v1/recordings?limit=3{following}").json
        found += [each["id"] for each in page["recordings"]]
        following = f"&before={page['next']}"
    assert found == [f"{number:016x}" for number in reversed(range(7))]
    assert page["next"] is None
    even = api.get("/v1/recordings?sni=even.test").json["recordings"]
    assert [each["id"] for each in even] == [f"{number:016x}" for number in (6, 4, 2, 0)]


def test_one_comes_whole_by_its_id_or_by_last(api: Api) -> None:
    whole = api.get("/v1/recordings/0000000000000003").json
    assert (whole["schema"], whole["id"], whole["legs"]) == (1, "0000000000000003", [])
    assert api.get("/v1/recordings/last").json["id"] == f"{6:016x}"
    assert api.get("/v1/recordings/last%7E1").json["id"] == f"{5:016x}"


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("?limit=0", 400), ("?limit=501", 400), ("?limit=x", 400), ("?limit=%D9%A1", 400), ("?limit=" + "1" * 400, 400),
        ("?before=nowhere", 400), ("?before=", 400), ("?colour=red", 400), ("?limit=1&limit=2", 400), ("?limit", 400),
        ("?sni=%FF", 400), ("?" + "&".join(f"a{number}=1" for number in range(30)), 400), ("?outcome=nonsense", 400),
        ("/nothing", 404), ("/..%2f..%2fetc%2fpasswd", 404), ("/%00", 404), ("/%FF", 404), ("/a/b", 404), ("/", 404),
        ("/000000000", 404),
    ],
    ids=range(20),
)  # fmt: skip
def test_what_is_not_there_or_in_no_form_is_declined_with_a_sentence(api: Api, target: str, status: int) -> None:
    answer = api.get(f"/v1/recordings{target}")
    assert answer.status == status, answer
    assert answer.json["error"]


def test_a_question_has_no_body(api: Api) -> None:
    assert api.request("GET", "/v1/recordings", b"{}").status == 400
