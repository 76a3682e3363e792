"""Keystone's description of a token, read into an Actor."""

from __future__ import annotations

import datetime as dt

import msgspec

from transom.model.actor import Actor


class _Named(msgspec.Struct):
    id: str
    name: str = ""


class _Owned(_Named):
    domain: _Named | None = None


class _System(msgspec.Struct):
    all: bool = False


class Token(msgspec.Struct):
    """The parts of a token's description that matter here."""

    user: _Owned
    expires_at: dt.datetime | None = None
    issued_at: dt.datetime | None = None
    roles: list[_Named] = []
    project: _Owned | None = None
    domain: _Named | None = None
    system: _System | None = None

    def actor(self, text: str) -> Actor:
        """Whom the token speaks for; `text` is the token itself."""
        project, domain = self.project, self.domain
        return Actor(
            user_id=self.user.id,
            user_name=self.user.name or None,
            user_domain_id=self.user.domain.id if self.user.domain else None,
            project_id=project.id if project else None,
            project_name=(project.name or None) if project else None,
            project_domain_id=project.domain.id if project and project.domain else None,
            domain_id=domain.id if domain else None,
            system_scope="all" if self.system and self.system.all else None,
            roles=frozenset(role.name for role in self.roles if role.name),
            token=text,
            expires_at=seconds(self.expires_at),
        )


class Answer(msgspec.Struct):
    """The body of Keystone's answer about a token."""

    token: Token


def seconds(moment: dt.datetime | None) -> float | None:
    """Seconds since the epoch; a moment without a zone is UTC."""
    if moment is None:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()


decode = msgspec.json.Decoder(Answer).decode
"""Reads the body; raises msgspec.MsgspecError for anything that is not such an answer."""
