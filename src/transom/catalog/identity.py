"""The local identity, remembered: users, projects, roles, grants, credentials, revoked tokens, and
the keys that sign tokens.

Every change adds one to `identity_state.revision` before anything else in its transaction. So a
reader that reads the revision first knows that the rest is at least as new, and a process that
finds the revision unchanged knows that nothing has changed at all.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    CursorResult,
    Executable,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Row,
    Select,
    Table,
    Text,
    UniqueConstraint,
    bindparam,
    delete,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from transom.catalog.engine import Engine, lock
from transom.catalog.schema import Moment, metadata, serial, word
from transom.errors import ConfigurationError, IdentityNotFound, NameTaken
from transom.model.identity import (
    ApplicationCredential,
    Basics,
    Grant,
    Project,
    Role,
    SigningKey,
    Standing,
    User,
)

T = TypeVar("T")

state = Table(
    "identity_state",
    metadata,
    # One row.
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("revision", BigInteger, nullable=False),
    Column("founded_at", Moment, nullable=False),
)

keys = Table(
    "identity_keys",
    metadata,
    Column("id", serial(), primary_key=True),
    Column("secret", LargeBinary, nullable=False),
    Column("created_at", Moment, nullable=False),
    # A key that was taken back must stay unknown, so its number is never given again.
    sqlite_autoincrement=True,
)

users = Table(
    "identity_users",
    metadata,
    Column("id", word(), primary_key=True),
    Column("name", word(), nullable=False),
    Column("is_enabled", Boolean, nullable=False),
    Column("password_hash", Text),
    Column("epoch", BigInteger, nullable=False),
    Column("default_project_id", word()),
    Column("description", Text, nullable=False),
    Column("email", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
    UniqueConstraint("name"),
)

projects = Table(
    "identity_projects",
    metadata,
    Column("id", word(), primary_key=True),
    Column("name", word(), nullable=False),
    Column("is_enabled", Boolean, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("description", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
    UniqueConstraint("name"),
)

roles = Table(
    "identity_roles",
    metadata,
    Column("id", word(), primary_key=True),
    Column("name", word(), nullable=False),
    UniqueConstraint("name"),
)

grants = Table(
    "identity_grants",
    metadata,
    Column("id", serial(), primary_key=True),
    Column("user_id", word(), ForeignKey(users.c.id, ondelete="CASCADE"), nullable=False),
    Column("project_id", word(), ForeignKey(projects.c.id, ondelete="CASCADE"), nullable=False),
    Column("role_id", word(), ForeignKey(roles.c.id, ondelete="CASCADE"), nullable=False),
    UniqueConstraint("user_id", "project_id", "role_id"),
    # Tokens name grants by number: a number that is given again would wake dead tokens.
    sqlite_autoincrement=True,
)

credentials = Table(
    "identity_credentials",
    metadata,
    Column("id", word(), primary_key=True),
    Column("user_id", word(), ForeignKey(users.c.id, ondelete="CASCADE"), nullable=False),
    Column("project_id", word(), ForeignKey(projects.c.id, ondelete="CASCADE"), nullable=False),
    Column("name", word(), nullable=False),
    Column("description", Text),
    Column("secret_hash", Text, nullable=False),
    Column("expires_at", Moment),
    Column("is_unrestricted", Boolean, nullable=False),
    Column("created_at", Moment, nullable=False),
    UniqueConstraint("user_id", "name"),
)

credential_roles = Table(
    "identity_credential_roles",
    metadata,
    Column(
        "credential_id",
        word(),
        ForeignKey(credentials.c.id, ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("role_id", word(), ForeignKey(roles.c.id, ondelete="CASCADE"), primary_key=True),
)

revocations = Table(
    "identity_revocations",
    metadata,
    Column("audit_id", LargeBinary, primary_key=True),
    # When the token would have ended by itself: nobody needs the row after that.
    Column("expires_at", Moment, nullable=False),
)

# What the foreign keys need to find their rows when a parent goes, and what lists ask for.
Index("ix_identity_grants_project_id", grants.c.project_id)
Index("ix_identity_grants_role_id", grants.c.role_id)
Index("ix_identity_credentials_project_id", credentials.c.project_id)
Index("ix_identity_credential_roles_role_id", credential_roles.c.role_id)
Index("ix_identity_revocations_expires_at", revocations.c.expires_at)

_REVISION = select(state.c.revision)
_USER = select(users).where(users.c.id == bindparam("id"))
_USER_NAMED = select(users).where(users.c.name == bindparam("name"))
_PROJECT = select(projects).where(projects.c.id == bindparam("id"))
_PROJECT_NAMED = select(projects).where(projects.c.name == bindparam("name"))
_GRANTS: Select[Any] = select(
    grants.c.id,
    grants.c.user_id,
    grants.c.project_id,
    roles.c.id.label("role_id"),
    roles.c.name.label("role_name"),
).join(roles, roles.c.id == grants.c.role_id)
_GRANTS_OF: Select[Any] = _GRANTS.where(
    grants.c.user_id == bindparam("user_id"), grants.c.project_id == bindparam("project_id")
)
_CREDENTIAL = select(credentials).where(credentials.c.id == bindparam("id"))
_CREDENTIAL_ROLES = (
    select(credential_roles.c.credential_id, roles.c.id, roles.c.name)
    .join(roles, roles.c.id == credential_roles.c.role_id)
    .order_by(roles.c.name)
)
_REVOKED = select(revocations.c.audit_id).where(revocations.c.audit_id == bindparam("audit_id"))


class Identities:
    """What the local identity remembers. Methods that change something raise IdentityNotFound for
    what is not there and NameTaken for a name that is in use; all may raise CatalogUnavailable."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    # --- founding ---------------------------------------------------------------------------------

    def is_founded_now(self) -> bool:
        """True when the first start has been: there are roles, an administrator, a key."""
        return self._engine.read_now(lambda connection: _founded(connection))

    def found_now(
        self,
        *,
        founded_at: dt.datetime,
        key_secret: bytes,
        new_roles: Iterable[Role],
        new_projects: Iterable[Project],
        new_users: Iterable[User],
        new_grants: Iterable[tuple[str, str, str]],
        before_commit: Callable[[], None],
    ) -> bool:
        """Store the first users, projects and roles (grants as user, project, role ids), all or
        nothing; False when another process was faster. `before_commit` runs last: if it fails,
        nothing is stored."""

        def work(connection: Connection) -> bool:
            lock(connection, "transom identity")
            if _founded(connection):
                return False
            connection.execute(insert(state).values(id=1, revision=1, founded_at=founded_at))
            connection.execute(insert(keys).values(secret=key_secret, created_at=founded_at))
            for role in new_roles:
                connection.execute(insert(roles).values(id=role.id, name=role.name))
            for project in new_projects:
                connection.execute(insert(projects).values(_columns(project)))
            for user in new_users:
                connection.execute(insert(users).values(_columns(user)))
            for user_id, project_id, role_id in new_grants:
                connection.execute(
                    insert(grants).values(user_id=user_id, project_id=project_id, role_id=role_id)
                )
            before_commit()
            return True

        return self._engine.write_now(work)

    # --- what tokens need ---------------------------------------------------------------------------

    async def revision(self) -> int:
        """The number that grows with every change; 0 before the first start."""
        return await self._engine.read(_revision)

    async def basics(self) -> Basics:
        """The signing keys, newest first, and the roles."""

        def work(connection: Connection) -> Basics:
            revision = _revision(connection)
            return Basics(
                revision=revision,
                keys=tuple(
                    SigningKey(id=row.id, secret=bytes(row.secret), created_at=row.created_at)
                    for row in connection.execute(select(keys).order_by(keys.c.id.desc()))
                ),
                roles=_roles(connection),
            )

        return await self._engine.read(work)

    async def standing(
        self,
        user_id: str,
        *,
        project_id: str | None = None,
        audit_id: bytes | None = None,
        credential_id: str | None = None,
    ) -> Standing:
        """All about whom a token names, in one hop."""

        def work(connection: Connection) -> Standing:
            revision = _revision(connection)
            user = connection.execute(_USER, {"id": user_id}).first()
            project: Row[Any] | None = None
            held: list[Grant] = []
            if project_id is not None:
                project = connection.execute(_PROJECT, {"id": project_id}).first()
                rows = connection.execute(
                    _GRANTS_OF, {"user_id": user_id, "project_id": project_id}
                )
                held = [_grant(row) for row in rows]
            return Standing(
                revision=revision,
                user=None if user is None else _user(user),
                project=None if project is None else _project(project),
                grants=tuple(held),
                credential=None
                if credential_id is None
                else _credential(connection, credential_id),
                is_revoked=audit_id is not None
                and connection.execute(_REVOKED, {"audit_id": audit_id}).first() is not None,
            )

        return await self._engine.read(work)

    async def revoke(self, audit_id: bytes, expires_at: dt.datetime, now: dt.datetime) -> None:
        """Let a token be dead until `expires_at`, when it ends by itself; forget the revocations
        that nobody needs any more."""

        def work(connection: Connection) -> None:
            _bump(connection)
            connection.execute(delete(revocations).where(revocations.c.expires_at < now))
            if connection.execute(_REVOKED, {"audit_id": audit_id}).first() is None:
                connection.execute(
                    insert(revocations).values(audit_id=audit_id, expires_at=expires_at)
                )

        await self._engine.write(work)

    async def add_key(self, secret: bytes, now: dt.datetime, *, drop_before: dt.datetime) -> int:
        """Store a new signing key; drop those that were replaced before `drop_before`. Gives the
        number of the new key."""

        def work(connection: Connection) -> int:
            _bump(connection)
            held = list(connection.execute(select(keys).order_by(keys.c.id.desc())))
            # A key is replaced at the moment when its successor was made.
            replaced_at = [now, *(row.created_at for row in held)]
            gone = [
                row.id
                for row, moment in zip(held, replaced_at, strict=False)
                if moment < drop_before
            ]
            if gone:
                connection.execute(delete(keys).where(keys.c.id.in_(gone)))
            result = connection.execute(insert(keys).values(secret=secret, created_at=now))
            return _number(result)

        return await self._engine.write(work)

    async def replace_keys(self, secret: bytes, now: dt.datetime) -> int:
        """Store a new signing key and drop all others: every token dies."""

        def work(connection: Connection) -> int:
            _bump(connection)
            connection.execute(delete(keys))
            return _number(connection.execute(insert(keys).values(secret=secret, created_at=now)))

        return await self._engine.write(work)

    # --- users --------------------------------------------------------------------------------------

    async def user(self, user_id: str) -> User | None:
        """The user with this id."""
        return await self._one(_USER, _user, id=user_id)

    async def user_named(self, name: str) -> User | None:
        """The user of this name."""
        return await self._one(_USER_NAMED, _user, name=name)

    async def users(self, name: str | None = None) -> tuple[User, ...]:
        """All users, or those of one name, by name."""
        question = select(users).order_by(users.c.name)
        if name is not None:
            question = question.where(users.c.name == name)
        return await self._all(question, _user)

    async def add_user(self, user: User) -> None:
        """Store a new user."""
        await self._write("user", user.name, insert(users).values(_columns(user)))

    async def change_user(self, user_id: str, *, ends_tokens: bool = False, **changes: Any) -> User:
        """Change columns of a user, and with `ends_tokens` let all of the user's tokens die."""
        return await self._change("user", users, _USER, _user, user_id, ends_tokens, changes)

    async def renew_password_hash(self, user_id: str, old: str, new: str) -> None:
        """Store the same password, hashed at today's cost, unless it was changed meanwhile. No
        token dies of this."""
        statement = (
            update(users)
            .where(users.c.id == user_id, users.c.password_hash == old)
            .values(password_hash=new)
        )

        def work(connection: Connection) -> None:
            # The revision stays: nothing that any token says has changed.
            connection.execute(statement)

        await self._engine.write(work)

    async def remove_user(self, user_id: str) -> None:
        """Remove a user with all grants and application credentials."""
        await self._remove("user", users, user_id)

    # --- projects -----------------------------------------------------------------------------------

    async def project(self, project_id: str) -> Project | None:
        """The project with this id."""
        return await self._one(_PROJECT, _project, id=project_id)

    async def project_named(self, name: str) -> Project | None:
        """The project of this name."""
        return await self._one(_PROJECT_NAMED, _project, name=name)

    async def projects(self, name: str | None = None) -> tuple[Project, ...]:
        """All projects, or those of one name, by name."""
        question = select(projects).order_by(projects.c.name)
        if name is not None:
            question = question.where(projects.c.name == name)
        return await self._all(question, _project)

    async def projects_of(self, user_id: str) -> tuple[Project, ...]:
        """The projects in which the user has a role, by name."""
        held = select(grants.c.project_id).where(grants.c.user_id == user_id)
        question = select(projects).where(projects.c.id.in_(held)).order_by(projects.c.name)
        return await self._all(question, _project)

    async def add_project(self, project: Project) -> None:
        """Store a new project."""
        await self._write("project", project.name, insert(projects).values(_columns(project)))

    async def change_project(
        self, project_id: str, *, ends_tokens: bool = False, **changes: Any
    ) -> Project:
        """Change columns of a project, and with `ends_tokens` let all tokens for it die."""
        return await self._change(
            "project", projects, _PROJECT, _project, project_id, ends_tokens, changes
        )

    async def remove_project(self, project_id: str) -> None:
        """Remove a project with all grants and application credentials in it. Images that it owns
        stay, for administrators to see to."""
        await self._remove("project", projects, project_id)

    # --- roles and grants -----------------------------------------------------------------------------

    async def roles(self, name: str | None = None) -> tuple[Role, ...]:
        """All roles, or those of one name, by name."""
        found = await self._engine.read(_roles)
        return found if name is None else tuple(role for role in found if role.name == name)

    async def add_role(self, role: Role) -> None:
        """Store a new role."""
        await self._write("role", role.name, insert(roles).values(id=role.id, name=role.name))

    async def remove_role(self, role_id: str) -> None:
        """Remove a role with all its grants."""
        await self._remove("role", roles, role_id)

    async def grants(
        self,
        user_id: str | None = None,
        project_id: str | None = None,
        role_id: str | None = None,
    ) -> tuple[Grant, ...]:
        """Who is what where: all of it, or that of one user, project, or role."""
        question = _GRANTS.order_by(grants.c.id)
        for column, value in (
            (grants.c.user_id, user_id),
            (grants.c.project_id, project_id),
            (grants.c.role_id, role_id),
        ):
            if value is not None:
                question = question.where(column == value)
        return await self._all(question, _grant)

    async def grant(self, user_id: str, project_id: str, role_id: str) -> None:
        """Give a user a role in a project; nothing changes when it is given already."""

        def work(connection: Connection) -> None:
            _bump(connection)
            held = select(grants.c.id).where(
                grants.c.user_id == user_id,
                grants.c.project_id == project_id,
                grants.c.role_id == role_id,
            )
            if connection.execute(held).first() is not None:
                return
            _insist(connection, "user", users, user_id)
            _insist(connection, "project", projects, project_id)
            _insist(connection, "role", roles, role_id)
            connection.execute(
                insert(grants).values(user_id=user_id, project_id=project_id, role_id=role_id)
            )

        await self._engine.write(work)

    async def withdraw(self, user_id: str, project_id: str, role_id: str) -> None:
        """Take a role from a user in a project. The user's application credentials in the project
        go with it, as in Keystone: they may stand on the role."""

        def work(connection: Connection) -> None:
            _bump(connection)
            result = connection.execute(
                delete(grants).where(
                    grants.c.user_id == user_id,
                    grants.c.project_id == project_id,
                    grants.c.role_id == role_id,
                )
            )
            if result.rowcount == 0:
                raise IdentityNotFound("role assignment", f"{user_id} {project_id} {role_id}")
            connection.execute(
                delete(credentials).where(
                    credentials.c.user_id == user_id, credentials.c.project_id == project_id
                )
            )

        await self._engine.write(work)

    # --- application credentials ------------------------------------------------------------------------

    async def credential(self, credential_id: str) -> ApplicationCredential | None:
        """The application credential with this id."""
        return await self._engine.read(lambda connection: _credential(connection, credential_id))

    async def credentials_of(
        self, user_id: str, name: str | None = None
    ) -> tuple[ApplicationCredential, ...]:
        """A user's application credentials, or the one of a name, oldest first."""

        def work(connection: Connection) -> tuple[ApplicationCredential, ...]:
            question = (
                select(credentials)
                .where(credentials.c.user_id == user_id)
                .order_by(credentials.c.created_at, credentials.c.id)
            )
            if name is not None:
                question = question.where(credentials.c.name == name)
            rows = list(connection.execute(question))
            held: dict[str, list[Role]] = {}
            for row in connection.execute(
                _CREDENTIAL_ROLES.where(
                    credential_roles.c.credential_id.in_([row.id for row in rows])
                )
            ):
                held.setdefault(row.credential_id, []).append(Role(id=row.id, name=row.name))
            return tuple(_credential_of(row, held.get(row.id, [])) for row in rows)

        return await self._engine.read(work)

    async def add_credential(self, credential: ApplicationCredential) -> None:
        """Store a new application credential with its roles."""
        columns = _columns(credential)
        del columns["roles"]

        def work(connection: Connection) -> None:
            _bump(connection)
            connection.execute(insert(credentials).values(columns))
            for role in credential.roles:
                connection.execute(
                    insert(credential_roles).values(credential_id=credential.id, role_id=role.id)
                )

        await self._named("application credential", credential.name, work)

    async def remove_credential(self, credential_id: str) -> None:
        """Remove an application credential; its tokens die."""
        await self._remove("application credential", credentials, credential_id)

    # --- how --------------------------------------------------------------------------------------------

    async def _one(
        self, question: Select[Any], make: Callable[[Row[Any]], T], **values: Any
    ) -> T | None:
        def work(connection: Connection) -> T | None:
            row = connection.execute(question, values).first()
            return None if row is None else make(row)

        return await self._engine.read(work)

    async def _all(self, question: Select[Any], make: Callable[[Row[Any]], T]) -> tuple[T, ...]:
        return await self._engine.read(
            lambda connection: tuple(make(row) for row in connection.execute(question))
        )

    async def _named(self, kind: str, name: str, work: Callable[[Connection], None]) -> None:
        try:
            await self._engine.write(work)
        except IntegrityError as broken:
            raise _conflict(broken, kind, name) from broken

    async def _write(self, kind: str, name: str, statement: Executable) -> None:
        def work(connection: Connection) -> None:
            _bump(connection)
            connection.execute(statement)

        await self._named(kind, name, work)

    async def _change(
        self,
        kind: str,
        table: Table,
        question: Select[Any],
        make: Callable[[Row[Any]], T],
        row_id: str,
        ends_tokens: bool,
        changes: dict[str, Any],
    ) -> T:
        if ends_tokens:
            changes = changes | {"epoch": table.c.epoch + 1}

        def work(connection: Connection) -> T:
            _bump(connection)
            _insist(connection, kind, table, row_id)
            if changes:
                connection.execute(update(table).where(table.c.id == row_id).values(changes))
            return make(connection.execute(question, {"id": row_id}).one())

        try:
            return await self._engine.write(work)
        except IntegrityError as broken:
            raise _conflict(broken, kind, str(changes.get("name"))) from broken

    async def _remove(self, kind: str, table: Table, row_id: str) -> None:
        def work(connection: Connection) -> None:
            _bump(connection)
            if connection.execute(delete(table).where(table.c.id == row_id)).rowcount == 0:
                raise IdentityNotFound(kind, row_id)

        await self._engine.write(work)


def _founded(connection: Connection) -> bool:
    return connection.execute(_REVISION).first() is not None


def _revision(connection: Connection) -> int:
    return int(connection.execute(_REVISION).scalar() or 0)


def _bump(connection: Connection) -> None:
    # First in every change: on PostgreSQL its row lock also puts the changes in one order.
    changed = connection.execute(update(state).values(revision=state.c.revision + 1))
    if changed.rowcount == 0:
        raise ConfigurationError(
            "The local identity is empty; start `transom serve` once with identity.backend = "
            "'local', which creates the first users."
        )


def _insist(connection: Connection, kind: str, table: Table, row_id: str) -> None:
    if connection.execute(select(table.c.id).where(table.c.id == row_id)).first() is None:
        raise IdentityNotFound(kind, row_id)


def _conflict(broken: IntegrityError, kind: str, name: str) -> Exception:
    # What is left besides a name in use: a role, user or project that went in the same moment.
    text = str(broken.orig).lower()
    return IdentityNotFound(kind, name) if "foreign key" in text else NameTaken(kind, name)


def _number(result: CursorResult[Any]) -> int:
    inserted = result.inserted_primary_key
    assert inserted is not None
    return int(inserted[0])


def _columns(noun: msgspec.Struct) -> dict[str, Any]:
    return msgspec.structs.asdict(noun)


def _roles(connection: Connection) -> tuple[Role, ...]:
    rows = connection.execute(select(roles).order_by(roles.c.name))
    return tuple(Role(id=row.id, name=row.name) for row in rows)


def _user(row: Row[Any]) -> User:
    return User(**row._mapping)  # noqa: SLF001 - the public name of a row as a mapping


def _project(row: Row[Any]) -> Project:
    return Project(**row._mapping)  # noqa: SLF001


def _grant(row: Row[Any]) -> Grant:
    return Grant(
        id=row.id,
        user_id=row.user_id,
        project_id=row.project_id,
        role=Role(id=row.role_id, name=row.role_name),
    )


def _credential(connection: Connection, credential_id: str) -> ApplicationCredential | None:
    row = connection.execute(_CREDENTIAL, {"id": credential_id}).first()
    if row is None:
        return None
    held = connection.execute(
        _CREDENTIAL_ROLES.where(credential_roles.c.credential_id == credential_id)
    )
    return _credential_of(row, [Role(id=role.id, name=role.name) for role in held])


def _credential_of(row: Row[Any], held: list[Role]) -> ApplicationCredential:
    return ApplicationCredential(**row._mapping, roles=tuple(held))  # noqa: SLF001
