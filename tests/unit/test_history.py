"""The consistency checker finds every kind of lie in a made-up history, and none in true ones.

Each history here is short enough to be judged by eye. Times are seconds; a call is begun and ended.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.history import DONE, REFUSED, UNKNOWN, Answer, Call, End, History, violations

DATA, OTHER = "d" * 8, "e" * 8
SIZES = {DATA: 10, OTHER: 20}


def a(
    verb: str,
    begun: float,
    ended: float,
    answer: Answer = DONE,
    code: int = 200,
    image: str = "i",
    **facts: Any,
) -> Call:
    """A call."""
    return Call(
        client="c", verb=verb, image=image, begun=begun, ended=ended, answer=answer, status=code,
        facts=facts,
    )  # fmt: skip


def state(status: str, digest: str | None = None, mark: str | None = None) -> dict[str, Any]:
    """What is told of an image."""
    size_bytes = SIZES.get(digest or "")
    return {"status": status, "digest": digest, "size_bytes": size_bytes, "mark": mark}


def sent(verb: str, begun: float, ended: float, digest: str = DATA, **more: Any) -> Call:
    """Data that is sent."""
    return a(verb, begun, ended, digest=digest, size_bytes=SIZES[digest], **more)


def shown(begun: float, ended: float, status: str, digest: str | None = None, **more: Any) -> Call:
    """A show."""
    return a("show", begun, ended, **state(status, digest, **more))


def missed(verb: str, begun: float, ended: float) -> Call:
    """An image that was not found."""
    return a(verb, begun, ended, REFUSED, 404)


def listed(begun: float, ended: float, **images: Any) -> Call:
    """A list."""
    return a("list", begun, ended, image="", images=images)


def got(begun: float, ended: float, digest: str = DATA, size_bytes: int | None = None) -> Call:
    """A download that came to its end."""
    return a("download", begun, ended, digest=digest, size_bytes=size_bytes or SIZES[digest])


CREATED = a("create", 0, 1, code=201)
UPLOADED = sent("upload", 2, 3)
DELETED = a("delete", 8, 9, code=204)
MAYBE_DELETED = a("delete", 8, 9, UNKNOWN, 502)
ACTIVE = state("active", DATA)

IMPOSSIBLE: dict[str, tuple[str, list[Call]]] = {
    "an acknowledged image that is gone": (
        "nobody deleted it",
        [CREATED, missed("show", 2, 3)],
    ),
    "an image gone before its deletion was asked for": (
        "nobody deleted it",
        [CREATED, missed("show", 2, 3), DELETED],
    ),
    "a deleted image that is shown": (
        "found again",
        [CREATED, UPLOADED, DELETED, shown(10, 11, "active", DATA)],
    ),
    "a deleted image in a list": (
        "found again",
        [CREATED, UPLOADED, DELETED, listed(10, 11, i=ACTIVE)],
    ),
    "a deleted image that is downloaded": (
        "found again",
        [CREATED, UPLOADED, DELETED, got(10, 11)],
    ),
    "an image that comes back after it was not found": (
        "found again",
        [CREATED, UPLOADED, MAYBE_DELETED, missed("show", 10, 11), shown(12, 13, "active", DATA)],
    ),
    "a list that leaves out what was there": ("missing in a list", [CREATED, listed(2, 3)]),
    "data of somebody else": (
        "nobody had sent",
        [CREATED, UPLOADED, shown(4, 5, "active", OTHER)],
    ),
    "data of an upload that was refused": (
        "nobody had sent",
        [CREATED, UPLOADED, sent("upload", 2, 3, OTHER, answer=REFUSED, code=409),
         shown(4, 5, "active", OTHER)],
    ),
    "data before it was sent": (
        "nobody had sent",
        [CREATED, sent("upload", 2, 3, OTHER), shown(4, 5, "active", DATA), sent("upload", 6, 7)],
    ),
    "a wrong size": (
        "size of other data",
        [CREATED, UPLOADED, a("show", 4, 5, **{**ACTIVE, "size_bytes": 9})],
    ),
    "data that changes": (
        "its data changed",
        [CREATED, UPLOADED, sent("upload", 2, 3, OTHER, answer=UNKNOWN),
         shown(4, 5, "active", DATA), shown(6, 7, "active", OTHER)],
    ),
    "two acknowledged uploads": (
        "two uploads were acknowledged",
        [CREATED, UPLOADED, sent("upload", 2, 3, OTHER)],
    ),
    "an acknowledged upload that lost": (
        "is not what the image has",
        [CREATED, UPLOADED, sent("upload", 2, 3, OTHER, answer=UNKNOWN),
         listed(4, 5, i=state("active", OTHER))],
    ),
    "a torn download": ("not the image's", [CREATED, UPLOADED, got(4, 5, "f" * 8, 10)]),
    "a download of the data that lost": (
        "not the image's",
        [CREATED, UPLOADED, sent("upload", 2, 3, OTHER, answer=UNKNOWN), got(4, 5, OTHER)],
    ),
    "a part for the whole": ("a part for the whole", [CREATED, UPLOADED, got(4, 5, DATA, 9)]),
    "a torn range": ("a part was given", [CREATED, UPLOADED, a("read", 4, 5, code=206, fits=())]),
    "a torn beginning before the connection broke": (
        "a part was given",
        [CREATED, UPLOADED, a("read", 4, 5, UNKNOWN, 200, fits=())],
    ),
    "a range of the data that lost": (
        "a part was given",
        [CREATED, UPLOADED, sent("upload", 2, 3, OTHER, answer=UNKNOWN),
         a("read", 4, 5, code=206, fits=(OTHER,))],
    ),
    "an active image that is queued again": (
        "is not any more",
        [CREATED, UPLOADED, shown(4, 5, "queued")],
    ),
    "an active image whose download is refused": (
        "a download was refused",
        [CREATED, UPLOADED, a("download", 4, 5, REFUSED, 409)],
    ),
    "a move that there is not": (
        "no move leads",
        [CREATED, UPLOADED, shown(4, 5, "active", DATA), shown(6, 7, "saving")],
    ),
    "a state that nobody knows": ("nobody asked for", [CREATED, shown(4, 5, "killed")]),
    "an image that leaves queued by itself": ("left queued", [CREATED, shown(4, 5, "saving")]),
    "an image that leaves queued for a refused upload": (
        "left queued",
        [CREATED, sent("upload", 2, 3, answer=REFUSED, code=413), shown(4, 5, "saving")],
    ),
    "a property that nobody wrote": (
        "which nobody had written",
        [CREATED, shown(2, 3, "queued", mark="one")],
    ),
    "a property of a refused update": (
        "which nobody had written",
        [CREATED, a("update", 2, 3, REFUSED, 409, mark="one"), shown(4, 5, "queued", mark="one")],
    ),
    "a property from the past": (
        "overwritten before",
        [CREATED, a("update", 2, 3, mark="one"), a("update", 4, 5, mark="two"),
         shown(6, 7, "queued", mark="one")],
    ),
    "a property that was never seen": (
        "overwritten before",
        [CREATED, a("update", 2, 3, mark="one"), listed(4, 5, i=state("queued"))],
    ),
    "a property that goes back": (
        "went back",
        [CREATED, a("update", 2, 3, mark="one"), a("update", 4, 9, mark="two"),
         shown(5, 6, "queued", mark="two"), shown(7, 8, "queued", mark="one")],
    ),
    "a member whom nobody let in": (
        "nobody let it in",
        [CREATED, a("members", 2, 3, members=("p",))],
    ),
    "a member that was let in and is not there": (
        "member after all",
        [CREATED, a("share", 2, 3, member="p"), a("members", 4, 5, members=())],
    ),
    "a member that was put out and is there": (
        "member after all",
        [CREATED, a("share", 2, 3, member="p"), a("unshare", 4, 5, member="p"),
         a("members", 6, 7, members=("p",))],
    ),
    "a caller whom a replica does not know": (
        "was not known",
        [CREATED, a("show", 2, 3, REFUSED, 401)],
    ),
    "an internal error": ("internal error", [CREATED, a("show", 2, 3, UNKNOWN, 500)]),
}  # fmt: skip

POSSIBLE: dict[str, list[Call]] = {
    "an ordinary life": [
        CREATED, shown(1.5, 1.8, "queued"), UPLOADED, shown(2.2, 2.6, "saving"),
        shown(4, 5, "active", DATA), listed(4, 5, i=ACTIVE), got(4, 5),
        a("read", 4, 5, code=206, fits=(DATA,)), DELETED, missed("show", 10, 11), listed(10, 11),
    ],
    "a sight beside the upload": [CREATED, UPLOADED, shown(2.1, 2.9, "active", DATA)],
    "a sight beside the deletion": [
        CREATED, UPLOADED, DELETED, shown(8.5, 9.5, "active", DATA), missed("show", 8.4, 8.6),
    ],
    "a deletion whose answer was lost, with effect": [
        CREATED, MAYBE_DELETED, missed("show", 10, 11), listed(10, 11),
    ],
    "a deletion whose answer was lost, without effect": [
        CREATED, UPLOADED, MAYBE_DELETED, shown(10, 11, "active", DATA),
    ],
    "a deletion whose answer was lost, with a late effect": [
        CREATED, MAYBE_DELETED, shown(10, 11, "queued"), missed("show", 12, 13),
    ],
    "a deletion that a store refused": [
        CREATED, UPLOADED, a("delete", 4, 6, UNKNOWN, 503), missed("show", 5, 5.5),
        shown(7, 8, "active", DATA),
    ],
    "a creation whose answer was lost": [
        a("create", 0, 1, UNKNOWN, 502), missed("show", 2, 3), listed(2, 3),
    ],
    "an upload whose answer was lost, with effect": [
        CREATED, sent("upload", 2, 3, answer=UNKNOWN), shown(4, 5, "saving"),
        shown(6, 7, "active", DATA), got(8, 9),
    ],
    "an upload whose answer was lost, without effect, and another": [
        CREATED, sent("upload", 2, 3, answer=UNKNOWN), shown(4, 5, "saving"), shown(6, 7, "queued"),
        sent("upload", 8, 9, OTHER), shown(10, 11, "active", OTHER),
    ],
    "of two uploads one": [
        CREATED, UPLOADED, sent("upload", 2, 3, OTHER, answer=REFUSED, code=409),
        shown(4, 5, "active", DATA),
    ],
    "an import": [
        CREATED, sent("stage", 2, 3), shown(3.1, 3.2, "uploading"), a("import", 4, 5, code=202),
        shown(5.1, 5.2, "importing"), shown(6, 7, "active", DATA),
    ],
    "an import that fails": [
        CREATED, sent("fetch", 2, 3, code=202), shown(4, 5, "importing"), shown(6, 7, "queued"),
    ],
    "a list beside the creation": [CREATED, listed(0.5, 2)],
    "updates side by side, in either order": [
        CREATED, a("update", 2, 5, mark="one"), a("update", 3, 4, mark="two"),
        shown(6, 7, "queued", mark="one"), shown(8, 9, "queued", mark="one"),
    ],
    "an update whose answer was lost, seen late": [
        CREATED, a("update", 2, 3, UNKNOWN, 502, mark="one"), a("update", 4, 5, mark="two"),
        shown(6, 7, "queued", mark="two"), shown(8, 9, "queued", mark="one"),
    ],
    "a member let in by a lost answer": [
        CREATED, a("share", 2, 3, UNKNOWN, 502, member="p"), a("members", 4, 5, members=("p",)),
        a("unshare", 6, 7, member="p"), a("members", 8, 9, members=()),
    ],
    "members side by side": [
        CREATED, a("share", 2, 5, member="p"), a("unshare", 3, 4, member="p"),
        a("members", 6, 7, members=("p",)),
    ],
}  # fmt: skip


@pytest.mark.parametrize("lie", IMPOSSIBLE)
def test_a_history_that_cannot_be_is_found_out(lie: str) -> None:
    sentence, calls = IMPOSSIBLE[lie]
    found = violations(History(calls))
    assert any(sentence in each for each in found), found


@pytest.mark.parametrize("truth", POSSIBLE)
def test_a_history_that_can_be_is_believed(truth: str) -> None:
    assert violations(History(POSSIBLE[truth])) == []


PLACE = ("main", "i.1")
WHOLE = End(
    statuses={"i": "active"},
    tasks={"i": (("t", "success"),)},
    locations={PLACE: 10},
    objects={PLACE: 10},
    used_bytes=10,
    held_bytes=10,
    counted_images=1,
)


def but(**changes: Any) -> End:
    """An end where all is well but for this."""
    kept = {name: getattr(WHOLE, name) for name in End.__slots__}
    return End(**{**kept, **changes})


IMPOSSIBLE_ENDS: dict[str, tuple[str, End]] = {
    "a stuck image": ("still saving", but(statuses={"i": "saving"})),
    "an image stuck in an import": ("still importing", but(statuses={"i": "importing"})),
    "an image that is gone": ("and it is gone", but(statuses={}, counted_images=0)),
    "staged data from nowhere": ("nobody staged", but(statuses={"i": "uploading"})),
    "a task that goes on": ("still processing", but(tasks={"i": (("t", "processing"),)})),
    "a task of nobody": ("has not ended", but(unfinished=("u",))),
    "an import without a task": ("there are 0 tasks", but(tasks={})),
    "a success without data": ("an import succeeded", but(statuses={"i": "queued"})),
    "a missing object": ("not in the store", but(objects={})),
    "a short object": ("has 9 bytes", but(objects={PLACE: 9})),
    "an orphan": ("nobody owns it", but(objects={PLACE: 10, ("main", "x"): 1})),
    "a reservation that stays": ("are reserved", but(reserved_bytes=5)),
    "bytes that are counted twice": ("20 bytes are counted", but(used_bytes=20)),
    "images that are counted and gone": ("2 images are counted", but(counted_images=2)),
}


@pytest.mark.parametrize("lie", IMPOSSIBLE_ENDS)
def test_an_end_that_cannot_be_is_found_out(lie: str) -> None:
    sentence, end = IMPOSSIBLE_ENDS[lie]
    found = violations(History([CREATED, sent("fetch", 2, 3, code=202)], end))
    assert any(sentence in each for each in found), found


def test_an_end_that_can_be_is_believed() -> None:
    assert violations(History([CREATED, sent("fetch", 2, 3, code=202)], WHOLE)) == []


def test_a_deletion_that_did_not_last_is_found_out() -> None:
    found = violations(History([CREATED, sent("fetch", 2, 3, code=202), DELETED], WHOLE))
    assert any("its deletion was acknowledged" in each for each in found), found
