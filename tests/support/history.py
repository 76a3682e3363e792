"""What clients were told, and whether any service that keeps its promises could have told it.

Clients that work at the same time write down every call: when it began and ended, and what came of
it. `violations` reads such a history afterwards and gives a sentence for everything that cannot be:
an acknowledged image that is gone, other bytes than were sent, a state that no move leads to, a list
that leaves out what was there all the time.

A call stands for a span of time, and what it did happened at some moment in it. So one call is only
taken to have happened before another where it had ended when the other began. A call whose answer
was lost (`unknown`) may have had its effect at any moment after it began, or never. Every rule
here asks for the impossible alone: what might be is not reported.

The rules are tested themselves, with made-up histories, in tests/unit/test_history.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Answer = Literal["done", "refused", "unknown"]
DONE: Answer = "done"
REFUSED: Answer = "refused"
UNKNOWN: Answer = "unknown"

MOVES: Mapping[str, frozenset[str]] = {
    "queued": frozenset({"saving", "uploading", "importing"}),
    "saving": frozenset({"active", "queued"}),
    "uploading": frozenset({"importing", "queued"}),
    "importing": frozenset({"active", "queued"}),
    "active": frozenset(),
}
"""The moves of the lifecycle that the clients of these tests can cause; deletion ends all of them."""

INTAKES = frozenset({"upload", "stage", "fetch"})
"""Verbs that bring data: into a store, into staging, from a URL."""
RESTING = frozenset({"queued", "uploading", "active"})
"""States in which nothing is going on. `uploading` is one while staged data waits for its import."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of one client, and what it was told.

    `facts` by verb: `upload`, `stage`, `fetch`: digest, size_bytes (what was sent); `show`: status,
    digest, size_bytes, mark, stores; `list`: images (id → the same); `download`: digest, size_bytes of
    what came, is_whole; `read`: fits (digests of the data sent to this image that have these bytes
    there); `update`: mark; `share`, `unshare`: member; `members`: members; `copy`: store.
    """

    client: str
    verb: str
    image: str
    begun: float
    ended: float
    answer: Answer
    status: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        told = ", ".join(f"{key}={_short(value)}" for key, value in self.facts.items())
        return (
            f"{self.client} {self.verb} [{self.begun:.3f} … {self.ended:.3f}] "
            f"{self.answer} {self.status or ''} {told}"
        )

    @property
    def may_count(self) -> bool:
        """It did what it asked for, or may have done it."""
        return self.answer != REFUSED


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """What there is when all clients have gone and everything has come to rest."""

    statuses: Mapping[str, str] = field(default_factory=dict)
    """Status of every image that is there."""
    tasks: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    """(task, status) of every task, by image."""
    unfinished: tuple[str, ...] = ()
    """Tasks of any image that have not ended."""
    locations: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Size in bytes of every object that the catalog names, by store and key."""
    objects: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Size in bytes of every object that lies in a store, partial ones too."""
    used_bytes: int = 0
    """What the catalog counts for the project."""
    reserved_bytes: int = 0
    counted_images: int = 0
    held_bytes: int = 0
    """The sum over what is there."""


@dataclass(slots=True)
class Story:
    """All calls that concern one image, in the order in which they began."""

    image: str
    calls: list[Call]
    listed: list[tuple[Call, Mapping[str, Any] | None]]
    """Every list that was told, with what it says of this image."""

    def of(self, *verbs: str) -> list[Call]:
        """The calls with one of these verbs."""
        return [call for call in self.calls if call.verb in verbs]

    @property
    def made(self) -> Call | None:
        """The creation, if it was acknowledged."""
        return next((call for call in self.of("create") if call.answer == DONE), None)

    @property
    def deletions(self) -> list[Call]:
        """Everything that may have deleted the image."""
        return [call for call in self.of("delete") if call.may_count]

    def may_be_gone(self, moment: float) -> bool:
        """Somebody may have deleted it before this moment."""
        return any(call.begun < moment for call in self.deletions)

    @property
    def seen(self) -> list[tuple[Call, Mapping[str, Any]]]:
        """Every sight of the image: it was shown, or stood in a list."""
        shown = [(call, call.facts) for call in self.of("show") if call.answer == DONE]
        shown += [(call, facts) for call, facts in self.listed if facts is not None]
        return sorted(shown, key=lambda pair: pair[0].begun)

    @property
    def missed(self) -> list[Call]:
        """Every time that somebody was told that there is no such image."""
        return [
            call
            for call in self.of("show", "members", "update", "upload", "stage")
            if call.status == 404 and call.answer == REFUSED
        ]

    @property
    def sent(self) -> dict[str, tuple[float, int]]:
        """All data that may be the image's: digest → when it was first sent, and its size."""
        found: dict[str, tuple[float, int]] = {}
        for call in self.of(*INTAKES):
            if call.may_count and call.facts["digest"] not in found:
                found[call.facts["digest"]] = call.begun, call.facts["size_bytes"]
        return found


class History:
    """Calls, and what was there at the end."""

    def __init__(self, calls: Iterable[Call], end: End | None = None) -> None:
        self.calls = sorted(calls, key=lambda call: call.begun)
        self.end = end
        self.lists = [call for call in self.calls if call.verb == "list" and call.answer == DONE]

    def stories(self) -> Iterator[Story]:
        """Image by image."""
        by_image: dict[str, list[Call]] = defaultdict(list)
        for call in self.calls:
            if call.image:
                by_image[call.image].append(call)
        for image, calls in by_image.items():
            listed = [(call, call.facts["images"].get(image)) for call in self.lists]
            yield Story(image, calls, listed)

    def count(self, answer: Answer) -> int:
        """How many calls got this answer."""
        return sum(call.answer == answer for call in self.calls)


Rule = Callable[[Story], Iterator[str]]
EndRule = Callable[[Story, End], Iterator[str]]


def violations(history: History) -> list[str]:
    """A sentence for everything in the history that cannot be; empty when all can be explained."""
    found: list[str] = []
    for call in history.calls:
        if call.status == 500:
            found.append(f"an internal error was told: {call.image} {call}")
        if call.status == 401:
            found.append(f"a caller was not known: {call.image} {call}")
    for story in history.stories():
        for rule in RULES:
            found += (f"{story.image}: {text}" for text in rule(story))
        if history.end is not None:
            for end_rule in END_RULES:
                found += (f"{story.image}: {text}" for text in end_rule(story, history.end))
    if history.end is not None:
        found += _settled(history.end)
    return found


# --- being there, and being gone ---------------------------------------------------------------------


def acknowledged_images_are_there(story: Story) -> Iterator[str]:
    """From its creation on an image is found, until somebody asks for its deletion."""
    if story.made is None:
        return
    for call in story.missed:
        if call.begun > story.made.ended and not story.may_be_gone(call.ended):
            yield f"nobody deleted it, and it was not found: {call}"


def deleted_images_stay_deleted(story: Story) -> Iterator[str]:
    """Once a deletion was acknowledged, or the image was not found, nobody finds it again. (Where a
    store refuses to let data go, a deletion is told to have failed and the image is put back.)"""
    ends = [call for call in story.of("delete") if call.answer == DONE]
    was_put_back = any(call.status == 503 for call in story.of("delete"))
    if story.made is not None and not was_put_back:
        ends += [call for call in story.missed if call.begun > story.made.ended]
    if not ends:
        return
    gone = min(ends, key=lambda call: call.ended)
    finders = [call for call, _ in story.seen]
    finders += [call for call in story.of("download", "read") if call.answer == DONE]
    for call in finders:
        if call.begun > gone.ended:
            yield f"it was gone ({gone}), and was found again: {call}"


def lists_are_whole(story: Story) -> Iterator[str]:
    """A list holds every image that was there from its beginning to its end."""
    if story.made is None:
        return
    for call, facts in story.listed:
        was_there = story.made.ended < call.begun and not story.may_be_gone(call.ended)
        if was_there and facts is None:
            yield f"it was there all the time, and is missing in a list: {call.client} {call.begun:.3f}"


# --- data ------------------------------------------------------------------------------------------


def an_image_has_one_data_for_ever(story: Story) -> Iterator[str]:
    """An image that is active has the data that somebody sent to it before, whole, and never other
    data, whoever looks and whenever."""
    sent, first = story.sent, None
    for call, facts in story.seen:
        if facts["status"] != "active":
            continue
        digest = facts["digest"]
        if digest not in sent or sent[digest][0] > call.ended:
            yield f"it is active with data that nobody had sent: {call}"
        elif facts["size_bytes"] != sent[digest][1]:
            yield f"it is active with the size of other data: {call}"
        if first is not None and first != digest:
            yield f"its data changed from {first[:8]}: {call}"
        first = first or digest
    told = [call for call in story.of("upload") if call.answer == DONE]
    for call in told:
        if first is not None and call.facts["digest"] != first:
            yield f"an acknowledged upload is not what the image has: {call}"
    if len({call.facts["digest"] for call in told}) > 1:
        yield f"two uploads were acknowledged: {told[0]}; {told[1]}"


def nothing_torn_is_served(story: Story) -> Iterator[str]:
    """Every byte that anybody was given is a byte of the image's data, at its place."""
    sent = story.sent
    known = {facts["digest"] for _, facts in story.seen if facts["status"] == "active"}
    known |= {call.facts["digest"] for call in story.of("upload") if call.answer == DONE}
    for call in story.of("download"):
        if call.answer != DONE:
            continue
        digest = call.facts["digest"]
        if digest not in sent or (known and digest not in known):
            yield f"a download gave bytes that are not the image's: {call}"
        elif call.facts["size_bytes"] != sent[digest][1]:
            yield f"a download gave a part for the whole: {call}"
    for call in story.of("read"):
        fits = set(call.facts.get("fits", ()))
        if "fits" in call.facts and (not fits or (known and not fits & known)):
            yield f"a part was given that is not the image's: {call}"


def acknowledged_data_is_served(story: Story) -> Iterator[str]:
    """From the acknowledgement of an upload on the image is active, and can be downloaded."""
    told = [call for call in story.of("upload") if call.answer == DONE]
    told += [call for call, facts in story.seen if facts["status"] == "active"]
    if not told:
        return
    since = min(told, key=lambda call: call.ended)
    for call, facts in story.seen:
        if call.begun > since.ended and facts["status"] != "active":
            yield f"it was active ({since}), and is not any more: {call}"
    for call in story.of("download", "read"):
        refused = call.answer == REFUSED and call.status not in (401, 403)
        if refused and call.begun > since.ended and not story.may_be_gone(call.ended):
            yield f"it was active ({since}), and a download was refused: {call}"


# --- states ----------------------------------------------------------------------------------------


def _reachable() -> Mapping[str, frozenset[str]]:
    reached = {status: {status} | moves for status, moves in MOVES.items()}
    for _ in MOVES:
        for status in reached:
            reached[status] |= {far for near in reached[status] for far in reached[near]}
    return {status: frozenset(all_of_them) for status, all_of_them in reached.items()}


REACHABLE = _reachable()


def states_follow_the_lifecycle(story: Story) -> Iterator[str]:
    """Of two sights of which one came after the other, the lifecycle leads from the first state to
    the second; and nothing leaves `queued` unasked."""
    seen = story.seen
    for call, facts in seen:
        status = facts["status"]
        if status not in MOVES:
            yield f"it is in a state that nobody asked for: {call}"
            continue
        asked = [
            each
            for each in story.of(*INTAKES)
            # One that is refused in the end may be under way until then.
            if each.begun < call.ended and (each.may_count or each.ended > call.begun)
        ]
        if status != "queued" and not asked:
            yield f"it left queued, and nobody had sent data: {call}"
        for before, then in seen:
            if before.ended < call.begun and status not in REACHABLE.get(then["status"], MOVES):
                yield f"no move leads from {then['status']} to {status}: {before}; {call}"


# --- what is written down about an image -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Write:
    call: Call
    value: Any


def _register(what: str, writes: list[_Write], reads: list[_Write], first: Any) -> Iterator[str]:
    """Reads of one value, against all writes of it: each read gives what was written before its end,
    and nothing that had been overwritten before its beginning; and who reads later does not read
    what is older."""

    def is_over(value: Any, call: Call) -> bool:
        """Everything that wrote the value had ended before another write began, and that one had
        ended before the read did begin."""
        latest = max(
            (write.call.ended if write.call.answer == DONE else float("inf"))
            for write in (*writes, _Write(_BEGINNING, first))
            if write.value == value
        )
        return any(
            write.call.answer == DONE
            and write.value != value
            and write.call.begun > latest
            and write.call.ended < call.begun
            for write in writes
        )

    written = {first: float("-inf")}
    for write in writes:
        written.setdefault(write.value, write.call.begun)
    for read in reads:
        if read.value not in written or written[read.value] > read.call.ended:
            yield f"{what} is {read.value!r}, which nobody had written: {read.call}"
        elif is_over(read.value, read.call):
            yield f"{what} is {read.value!r}, which had been overwritten before: {read.call}"
    for earlier in reads:
        for later in reads:
            if earlier.call.ended >= later.call.begun or earlier.value == later.value:
                continue
            news = [write.call for write in writes if write.value == earlier.value]
            olds = [write.call for write in writes if write.value == later.value]
            if not news or any(call.answer != DONE for call in olds):
                continue
            last_old = max((call.ended for call in olds), default=float("-inf"))
            if last_old < min(call.begun for call in news):
                yield f"{what} went back to {later.value!r}: {earlier.call}; {later.call}"


_BEGINNING = Call(
    client="", verb="", image="", begun=float("-inf"), ended=float("-inf"), answer=DONE
)


def properties_are_what_was_written(story: Story) -> Iterator[str]:
    """The property that clients write into is what the last of them wrote."""
    writes = [_Write(call, call.facts["mark"]) for call in story.of("update") if call.may_count]
    reads = [_Write(call, facts["mark"]) for call, facts in story.seen if "mark" in facts]
    yield from _register("the property", writes, reads, None)


def members_are_who_was_let_in(story: Story) -> Iterator[str]:
    """Members are those whom the owner let in and did not put out again."""
    reads = [call for call in story.of("members") if call.answer == DONE]
    changes = [call for call in story.of("share", "unshare") if call.may_count]
    for member in {call.facts["member"] for call in changes} | {
        each for call in reads for each in call.facts["members"]
    }:
        mine = [call for call in changes if call.facts["member"] == member]
        yield from _membership(member, mine, reads)


def _membership(member: str, changes: list[Call], reads: list[Call]) -> Iterator[str]:
    for read in reads:
        is_in = member in read.facts["members"]
        wanted, other = ("share", "unshare") if is_in else ("unshare", "share")
        if is_in and not any(c.verb == wanted and c.begun < read.ended for c in changes):
            yield f"{member} is a member, and nobody let it in: {read}"
        for call in changes:
            if call.verb != other or call.answer != DONE or call.ended >= read.begun:
                continue
            later = [
                each
                for each in changes
                if each.verb == wanted
                and each.begun < read.ended
                and (each.answer == UNKNOWN or each.ended > call.begun)
            ]
            if not later:
                yield f"{member} is {'' if is_in else 'no '}member after all: {call}; {read}"


# --- the end -----------------------------------------------------------------------------------------


def everything_rests(story: Story, end: End) -> Iterator[str]:
    """At the end every image is in a state in which nothing goes on, and those that were
    acknowledged are there."""
    status = end.statuses.get(story.image)
    if status is not None and status not in RESTING:
        yield f"it is still {status}"
    if status == "uploading" and not any(call.may_count for call in story.of("stage")):
        yield "it is uploading, and nobody staged anything"
    if status is None and story.made is not None and not story.deletions:
        yield "it was acknowledged, nobody deleted it, and it is gone"
    if status is not None and any(call.answer == DONE for call in story.of("delete")):
        yield "its deletion was acknowledged, and it is there"


def every_import_ends(story: Story, end: End) -> Iterator[str]:
    """Every import that was accepted has a task, and every task has ended; one that succeeded left an
    active image, in the stores that it was to fill."""
    tasks = end.tasks.get(story.image, ())
    for task, status in tasks:
        if status not in ("success", "failure"):
            yield f"task {task} is still {status}"
    accepted = [call for call in story.of("import", "fetch", "copy") if call.answer == DONE]
    status = end.statuses.get(story.image)
    if status is not None and len(tasks) < len(accepted):
        yield f"{len(accepted)} imports were accepted, and there are {len(tasks)} tasks"
    if status is not None and status != "active" and any(each == "success" for _, each in tasks):
        yield f"an import succeeded, and it is {status}"


def _settled(end: End) -> Iterator[str]:
    for task in end.unfinished:
        yield f"task {task} has not ended"
    for place, size_bytes in end.locations.items():
        found = end.objects.get(place)
        if found is None:
            yield f"the catalog names {place}, which is not in the store"
        elif found != size_bytes:
            yield f"{place} has {found} bytes, and the catalog says {size_bytes}"
    for place in end.objects.keys() - end.locations.keys():
        yield f"{place} lies in the store, and nobody owns it"
    if end.reserved_bytes:
        yield f"{end.reserved_bytes} bytes are reserved, and nobody uploads"
    if end.used_bytes != end.held_bytes:
        yield f"{end.used_bytes} bytes are counted, and {end.held_bytes} are there"
    if end.counted_images != len(end.statuses):
        yield f"{end.counted_images} images are counted, and {len(end.statuses)} are there"


RULES: tuple[Rule, ...] = (
    acknowledged_images_are_there,
    deleted_images_stay_deleted,
    lists_are_whole,
    an_image_has_one_data_for_ever,
    nothing_torn_is_served,
    acknowledged_data_is_served,
    states_follow_the_lifecycle,
    properties_are_what_was_written,
    members_are_who_was_let_in,
)
END_RULES: tuple[EndRule, ...] = (everything_rests, every_import_ends)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{text[:12]}…({len(text)})"
