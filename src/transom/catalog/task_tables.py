"""The tables of tasks, and of bytes that are on their way into images."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
)

from transom.catalog.schema import Moment, images, metadata, one_of, word
from transom.model.task import TaskStatus, TaskType

tasks = Table(
    "tasks",
    metadata,
    Column("id", word(), primary_key=True),
    Column("type", word(), nullable=False),
    Column("status", word(), nullable=False),
    Column("owner", word()),
    Column("user_id", word()),
    Column("request_id", word()),
    # No foreign key: a task tells of its image also when that never came to be.
    Column("image_id", word()),
    # JSON.
    Column("input", Text, nullable=False),
    Column("result", Text),
    Column("message", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    Column("started_at", Moment),
    Column("expires_at", Moment),
    Column("process_id", word()),
    # Grows when a process takes the task up: what a process writes that has lost it is refused.
    Column("attempt", Integer, nullable=False),
    Column("is_cancelled", Boolean, nullable=False),
    Column("phase", Text, nullable=False),
    Column("done_bytes", BigInteger, nullable=False),
    Column("total_bytes", BigInteger),
    Column("rate_bytes", BigInteger, nullable=False),
    # JSON: what the steps remember.
    Column("notes", Text, nullable=False),
    CheckConstraint(one_of("type", TaskType), name="type"),
    CheckConstraint(one_of("status", TaskStatus), name="status"),
    CheckConstraint(
        "(status IN ('success', 'failure')) = (expires_at IS NOT NULL)", name="expires_at"
    ),
)

task_objects = Table(
    "task_objects",
    metadata,
    # What a task wrote or writes, remembered before its first byte. No foreign key: the row is all
    # that leads to the bytes when the task is gone.
    Column("store", word(), primary_key=True),
    Column("key", word(), primary_key=True),
    Column("task_id", word(), nullable=False),
    Column("token", Text, nullable=False),
    # True once the object is a location of the image: it goes again if the task fails.
    Column("is_placed", Boolean, nullable=False),
    Column("created_at", Moment, nullable=False),
)

staged = Table(
    "staged",
    metadata,
    Column("image_id", word(), ForeignKey(images.c.id), primary_key=True),
    Column("store", word(), nullable=False),
    Column("key", word(), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("staged_at", Moment, nullable=False),
    CheckConstraint("size_bytes >= 0", name="size_bytes"),
)

Index("ix_tasks_created_at", tasks.c.created_at, tasks.c.id)
Index("ix_tasks_image_id", tasks.c.image_id, tasks.c.created_at)
Index("ix_tasks_expires_at", tasks.c.expires_at)
# A condition on the index would load the PostgreSQL dialect at every start, with SQLite too.
Index("ix_tasks_status", tasks.c.status, tasks.c.created_at)
Index("ix_task_objects_task_id", task_objects.c.task_id)
