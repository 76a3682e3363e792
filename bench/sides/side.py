"""What every side looks like to the measurements."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.processes import Server


@dataclass(frozen=True, slots=True)
class Side:
    """One running server: where it is, and the headers that its callers send."""

    key: str
    """Its column in the table."""
    url: str
    server: Server
    database: Server | None = None
    """The server that keeps its catalog, when that is another program."""
    admin: Mapping[str, str] | None = field(default_factory=dict)
    """Headers of an administrator; None when this server is not asked as one."""
    member: Mapping[str, str] | None = None
    """Headers of a member of project 0; None when this server is not asked as one."""

    def cpu_seconds(self) -> float:
        """Processor time that the side has used until now, its database's included."""
        database = 0.0 if self.database is None else self.database.cpu_seconds()
        return self.server.cpu_seconds() + database
