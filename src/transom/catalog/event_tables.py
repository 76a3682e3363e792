"""The tables of events that are on their way to who wants to know of them."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, Index, Integer, Table, Text

from transom.catalog.schema import Moment, metadata, one_of, serial, word
from transom.model.event import EventState

events = Table(
    "events",
    metadata,
    # One row for each target; it goes when the target has it.
    Column("number", serial(), primary_key=True),
    Column("target", word(), nullable=False),
    Column("event_id", word(), nullable=False),
    Column("type", word(), nullable=False),
    Column("subject", word(), nullable=False),
    Column("priority", word(), nullable=False),
    # JSON.
    Column("payload", Text, nullable=False),
    Column("request_id", word(), nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("state", word(), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_at", Moment, nullable=False),
    Column("reason", Text, nullable=False),
    CheckConstraint(one_of("state", EventState), name="state"),
    # A number that was used tells the order; it must not be used again.
    sqlite_autoincrement=True,
)

event_targets = Table(
    "event_targets",
    metadata,
    # Which process delivers to a target, and until when it alone does.
    Column("target", word(), primary_key=True),
    Column("held_by", word(), nullable=False),
    Column("held_until", Moment, nullable=False),
)

# The first of each subject, and whether there is anything.
Index("ix_events_subject", events.c.target, events.c.state, events.c.subject, events.c.number)
Index("ix_events_state", events.c.state, events.c.number)
