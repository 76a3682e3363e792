"""Who is asking."""

from __future__ import annotations

import msgspec


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """The caller of a request, as the identity backend vouches for it.

    `project_id` is None for unscoped, domain- and system-scoped tokens. `is_admin` is the verdict
    of policy rule `context_is_admin`, filled in by the HTTP face once per request; nothing else
    decides who is an administrator.
    """

    user_id: str | None = None
    user_name: str | None = None
    user_domain_id: str | None = None
    project_id: str | None = None
    project_name: str | None = None
    project_domain_id: str | None = None
    domain_id: str | None = None
    system_scope: str | None = None
    roles: frozenset[str] = frozenset()
    service_roles: frozenset[str] = frozenset()
    is_admin: bool = False
    is_anonymous: bool = False
    token: str | None = None
    expires_at: float | None = None
    """End of the token's life, seconds since the epoch; None = never."""

    def __repr__(self) -> str:
        return (
            f"Actor(user_id={self.user_id!r}, project_id={self.project_id!r}, "
            f"roles={sorted(self.roles)!r})"
        )


ANONYMOUS = Actor(is_anonymous=True)
"""A caller without identity where `allow_anonymous` is on: read-only, no roles."""
