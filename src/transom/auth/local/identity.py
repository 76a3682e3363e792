"""Logging in, and what a token is worth.

A token says whom it speaks for and what it stands on: the user's and the project's epoch, the
grants, perhaps an application credential. It is good while all of that still stands, it is not
revoked, and its time is not over. What was found is kept for each token together with the catalog's
revision: while that number stays, nothing has changed and the verdict needs no second look. The
number itself is read at most once a second, in the background where traffic is steady; a verdict is
never given on a number older than that. So whatever one process changes, all others know a second
later, and the process that changed it knows at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import time
from collections import OrderedDict
from collections.abc import Callable

import msgspec
import structlog

from transom.auth.local import passwords, tokens
from transom.auth.local.accounts import Accounts
from transom.auth.local.guesses import Guesses
from transom.auth.local.roles import with_implied
from transom.auth.local.tokens import Claims
from transom.errors import IdentityRefused, TransomError, Unauthenticated, UnknownKey
from transom.model.actor import Actor
from transom.model.identity import (
    DOMAIN_ID,
    ApplicationCredential,
    Project,
    Role,
    Standing,
    User,
)

_log = structlog.get_logger(__name__)

FRESH_SECONDS = 1.0
"""How old the known revision may be when a verdict is given."""
_RENEW_SECONDS = 0.5
"""From this age on it is renewed in the background."""
_UNKNOWN_KEY_SECONDS = 0.05
"""How old it may be when a token comes with an unknown key, which may just have been made."""
GRACE_SECONDS = 172800.0
"""How long after its end a token still passes beside a service token: two days, as in Keystone."""
_VERDICTS_MAX = 8192
_VERIFYING_MAX = 2

REFUSED = "The request you have made requires authentication."
"""What every failed login says, whatever it was that did not fit."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a token is worth, as of `revision`."""

    token: str
    actor: Actor
    user: User
    project: Project | None
    roles: tuple[Role, ...]
    """With the implied ones, by name."""
    credential: ApplicationCredential | None
    methods: frozenset[str]
    audit_id: bytes
    parent_audit_id: bytes
    issued_at: float
    expires_at: float
    revision: int

    def __repr__(self) -> str:
        return f"Verdict(actor={self.actor!r}, expires_at={self.expires_at!r})"


class UserReference(msgspec.Struct, frozen=True):
    """Whom a login speaks of: an id, or a name. Neither stands for somebody unknown."""

    id: str | None = None
    name: str | None = None


class ProjectReference(msgspec.Struct, frozen=True):
    """What a login asks to be scoped to: a project by id or name. Neither = one that is not here."""

    id: str | None = None
    name: str | None = None


class Password(msgspec.Struct, frozen=True):
    """Login with a user's password."""

    user: UserReference
    password: str

    def __repr__(self) -> str:
        return f"Password(user={self.user!r})"


class Token(msgspec.Struct, frozen=True):
    """Login with a token, for another scope."""

    token: str

    def __repr__(self) -> str:
        return "Token()"


class Secret(msgspec.Struct, frozen=True):
    """Login with an application credential, by its id, or by its name and user."""

    credential_id: str | None
    name: str | None
    user: UserReference
    secret: str

    def __repr__(self) -> str:
        return f"Secret(credential_id={self.credential_id!r}, name={self.name!r})"


UNSCOPED = "unscoped"


class Login(msgspec.Struct, frozen=True):
    """A login: one or more proofs, all of the same user, and the scope asked for.

    `scope` None leaves the choice to the service: the user's default project, if there is one.
    """

    proofs: tuple[Password | Token | Secret, ...]
    scope: ProjectReference | str | None = None


class LocalIdentity:
    """The rules over what the catalog remembers. One for each process."""

    def __init__(
        self,
        accounts: Accounts,
        token_seconds: float,
        *,
        clock: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self.accounts = accounts
        self._token_seconds = token_seconds
        self._clock = clock
        self._ticks = ticks
        self._verdicts: OrderedDict[str, Verdict] = OrderedDict()
        self._revision = -1
        self._checked_at = float("-inf")
        self._keys: dict[int, bytes] = {}
        self._signing_key_id = 0
        self._roles: dict[str, Role] = {}
        self._renewal: asyncio.Task[None] | None = None
        self._verifying = asyncio.Semaphore(_VERIFYING_MAX)
        self._guesses_from = Guesses()
        self._guesses_at = Guesses(free=50, wait_seconds_max=5.0)

    # --- what is a token worth? -----------------------------------------------------------------------

    def verdict_now(self, token: str, grace_seconds: float = 0.0) -> Verdict | None:
        """The verdict if it is known and certainly still right, without any waiting."""
        age = self._ticks() - self._checked_at
        if age > FRESH_SECONDS:
            return None
        verdict = self._verdicts.get(token)
        if (
            verdict is None
            or verdict.revision != self._revision
            or verdict.expires_at + grace_seconds <= self._clock()
        ):
            return None
        if age > _RENEW_SECONDS:
            self._renew_soon()
        self._verdicts.move_to_end(token)
        return verdict

    async def verdict(self, token: str, grace_seconds: float = 0.0) -> Verdict:
        """What the token is worth; one that ended up to `grace_seconds` ago counts. Raises
        Unauthenticated, CatalogUnavailable."""
        if self._ticks() - self._checked_at > FRESH_SECONDS:
            await self._renewed()
        known = self.verdict_now(token, grace_seconds)
        if known is not None:
            return known
        try:
            claims = tokens.unseal(token, self._keys)
        except UnknownKey:
            if self._ticks() - self._checked_at <= _UNKNOWN_KEY_SECONDS:
                raise
            await self._read_revision()
            claims = tokens.unseal(token, self._keys)
        if claims.expires_at + grace_seconds <= self._clock():
            raise Unauthenticated("The token has expired; log in again.")
        standing = await self.accounts.standing(
            claims.user_id.hex(),
            project_id=claims.project_id.hex() or None,
            audit_id=claims.audit_id,
            credential_id=claims.credential_id.hex() or None,
        )
        if standing.revision != self._revision:
            await self._read_revision()
        verdict = self._judge(token, claims, standing)
        self._verdicts[token] = verdict
        self._verdicts.move_to_end(token)
        if len(self._verdicts) > _VERDICTS_MAX:
            self._verdicts.popitem(last=False)
        return verdict

    def _judge(self, token: str, claims: Claims, standing: Standing) -> Verdict:
        user, project, credential = standing.user, standing.project, standing.credential
        if standing.is_revoked:
            raise Unauthenticated("The token was revoked; log in again.")
        if user is None or not user.is_enabled or user.epoch != claims.user_epoch:
            raise Unauthenticated
        roles: frozenset[str] = frozenset()
        if claims.project_id:
            held = {grant.id for grant in standing.grants}
            if project is None or not project.is_enabled or project.epoch != claims.project_epoch:
                raise Unauthenticated
            if not claims.grants or not held.issuperset(claims.grants):
                raise Unauthenticated("The token's roles have changed; log in again.")
            roles = with_implied(grant.role.name for grant in standing.grants)
        if claims.credential_id:
            roles = self._roles_of(credential, roles)
        return Verdict(
            token=token,
            actor=Actor(
                user_id=user.id,
                user_name=user.name,
                user_domain_id=DOMAIN_ID,
                project_id=None if project is None else project.id,
                project_name=None if project is None else project.name,
                project_domain_id=None if project is None else DOMAIN_ID,
                roles=roles,
                token=token,
                expires_at=float(claims.expires_at),
            ),
            user=user,
            project=project,
            roles=tuple(role for name, role in self._roles.items() if name in roles),
            credential=credential,
            methods=tokens.methods_of(claims.methods),
            audit_id=claims.audit_id,
            parent_audit_id=claims.parent_audit_id,
            issued_at=float(claims.issued_at),
            expires_at=float(claims.expires_at),
            revision=standing.revision,
        )

    def _roles_of(
        self, credential: ApplicationCredential | None, held: frozenset[str]
    ) -> frozenset[str]:
        if credential is None or (
            credential.expires_at is not None and credential.expires_at.timestamp() <= self._clock()
        ):
            raise Unauthenticated("The application credential is gone or has expired.")
        roles = frozenset(role.name for role in credential.roles)
        # A user who lost a role cannot keep it through a credential.
        if not roles or not roles <= held:
            raise Unauthenticated("The user no longer has the application credential's roles.")
        return roles

    # --- logging in -------------------------------------------------------------------------------------

    async def log_in(self, login: Login, address: str = "") -> Verdict:
        """A new token and what it is worth. `address` is the client's: wrong passwords from there
        make its next attempt wait.

        Raises Unauthenticated for any proof or scope that does not fit, without telling which;
        IdentityRefused for a token that may not make tokens; CatalogUnavailable.
        """
        now = self._clock()
        await self._fresh()
        user: User | None = None
        credential: ApplicationCredential | None = None
        expires_at = now + self._token_seconds
        methods: frozenset[str] = frozenset()
        parent = b""
        for proof in login.proofs:
            match proof:
                case Password():
                    proven = await self._prove(proof, address)
                    methods |= {"password"}
                case Secret():
                    credential = await self._check_secret(proof, address)
                    found = await self.accounts.user(credential.user_id)
                    if found is None:
                        raise Unauthenticated(REFUSED)
                    proven = found
                    methods |= {"application_credential"}
                    if credential.expires_at is not None:
                        expires_at = min(expires_at, credential.expires_at.timestamp())
                case Token():
                    old = await self.verdict(proof.token)
                    if old.credential is not None:
                        raise IdentityRefused(
                            "use the token of an application credential to log in"
                        )
                    proven = old.user
                    methods |= old.methods | {"token"}
                    parent = old.audit_id
                    expires_at = min(expires_at, old.expires_at)
            if user is not None and user.id != proven.id:
                raise Unauthenticated(REFUSED)
            user = proven
        if user is None or not user.is_enabled:
            raise Unauthenticated(REFUSED)
        claims = Claims(
            audit_id=tokens.new_audit_id(),
            user_id=bytes.fromhex(user.id),
            user_epoch=user.epoch,
            issued_at=int(now),
            expires_at=int(expires_at),
            methods=tokens.bits_of(methods),
            parent_audit_id=parent,
        )
        if credential is not None:
            if login.scope not in (None, UNSCOPED):
                raise Unauthenticated(
                    "Error authenticating with application credential: Application credentials "
                    "cannot request a scope."
                )
            scope: ProjectReference | str | None = ProjectReference(id=credential.project_id)
            claims = msgspec.structs.replace(claims, credential_id=bytes.fromhex(credential.id))
        else:
            scope = login.scope
        claims = await self._scoped(claims, user, scope)
        token = tokens.seal(claims, self._signing_key_id, self._keys[self._signing_key_id])
        try:
            return await self.verdict(token)
        except Unauthenticated as changed:
            # The user or project changed while the password was checked.
            raise Unauthenticated(REFUSED) from changed

    async def _scoped(
        self, claims: Claims, user: User, scope: ProjectReference | str | None
    ) -> Claims:
        if isinstance(scope, str):
            return claims
        if scope is None:
            if user.default_project_id is None:
                return claims
            try:
                return await self._scoped(
                    claims, user, ProjectReference(id=user.default_project_id)
                )
            except Unauthenticated:
                # A default project in which the user is nobody, as in Keystone: no scope then.
                return claims
        project = None
        if scope.id is not None:
            project = await self.accounts.project(scope.id)
        elif scope.name is not None:
            project = await self.accounts.project_named(scope.name)
        if project is None or not project.is_enabled:
            raise Unauthenticated(REFUSED)
        standing = await self.accounts.standing(user.id, project_id=project.id)
        if not standing.grants:
            raise Unauthenticated(REFUSED)
        return msgspec.structs.replace(
            claims,
            project_id=bytes.fromhex(project.id),
            project_epoch=project.epoch,
            grants=tuple(grant.id for grant in standing.grants),
        )

    async def check_password(self, user_id: str, password: str, address: str = "") -> User:
        """The user, if the password is the right one. Raises Unauthenticated."""
        return await self._prove(Password(UserReference(id=user_id), password), address)

    async def _prove(self, proof: Password, address: str) -> User:
        user = await self._find(proof.user)
        name = user.id if user is not None else f"? {proof.user.id or proof.user.name}"
        hashed = None if user is None else user.password_hash
        await self._verify(proof.password, hashed, name, address, user)
        assert user is not None
        if hashed is not None and passwords.is_dated(hashed):
            renewed = await passwords.hash_password(proof.password)
            await self.accounts.renew_password_hash(user.id, hashed, renewed)
        return user

    async def _check_secret(self, proof: Secret, address: str) -> ApplicationCredential:
        credential = None
        if proof.credential_id is not None:
            credential = await self.accounts.credential(proof.credential_id)
        else:
            user = await self._find(proof.user)
            if user is not None and proof.name is not None:
                found = await self.accounts.credentials_of(user.id, proof.name)
                credential = found[0] if found else None
        name = credential.id if credential is not None else f"? {proof.credential_id or proof.name}"
        hashed = None if credential is None else credential.secret_hash
        await self._verify(proof.secret, hashed, name, address, None)
        assert credential is not None
        return credential

    async def _verify(
        self, secret: str, hashed: str | None, name: str, address: str, user: User | None
    ) -> None:
        """Raise Unauthenticated unless the secret fits. As slow for names that do not exist."""
        source = f"{address} {name}"
        async with self._verifying:
            # Asked only now: whoever queues a thousand guesses at once is told to wait too.
            self._guesses_from.check(source)
            self._guesses_at.check(name)
            fits = await passwords.fits(secret, hashed)
            if fits:
                self._guesses_from.succeeded(source)
                self._guesses_at.succeeded(name)
                return
            self._guesses_from.failed(source)
            self._guesses_at.failed(name)
        # A name that does not exist may be a password typed in the wrong place: not logged.
        _log.warning("login.failed", user=None if user is None else user.name, address=address)
        raise Unauthenticated(REFUSED)

    async def _find(self, reference: UserReference) -> User | None:
        if reference.id is not None:
            return await self.accounts.user(reference.id)
        if reference.name is not None:
            return await self.accounts.user_named(reference.name)
        return None

    # --- changes --------------------------------------------------------------------------------------

    async def revoke(self, verdict: Verdict) -> None:
        """Let a token die: here at once, elsewhere within a second."""
        await self.accounts.revoke(
            verdict.audit_id,
            dt.datetime.fromtimestamp(verdict.expires_at + GRACE_SECONDS, dt.UTC),
            dt.datetime.fromtimestamp(self._clock(), dt.UTC),
        )
        await self.changed()

    async def changed(self) -> None:
        """Forget what a change of the accounts made wrong. To be called after each one."""
        await self._read_revision()

    def role_named(self, name: str) -> Role | None:
        """The role of this name, as of the last look at the catalog."""
        return self._roles.get(name)

    async def close(self) -> None:
        """Stop the work in the background."""
        task, self._renewal = self._renewal, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, TransomError):
                await task

    # --- the revision -------------------------------------------------------------------------------------

    async def _fresh(self) -> None:
        if self._ticks() - self._checked_at > FRESH_SECONDS:
            await self._renewed()

    def _renew_soon(self) -> None:
        if self._renewal is None or self._renewal.done():
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                return
            self._renewal = loop.create_task(self._renew_quietly(), name="identity-revision")

    async def _renew_quietly(self) -> None:
        try:
            await self._read_revision()
        except TransomError as error:
            # The next request that needs a fresh number meets the failure itself.
            _log.warning("identity.revision_not_read", reason=str(error))

    async def _renewed(self) -> None:
        # Requests that come together share one look. Whoever shares it counts from its beginning.
        if self._renewal is None or self._renewal.done():
            self._renewal = asyncio.create_task(self._read_revision(), name="identity-revision")
        await asyncio.shield(self._renewal)
        if self._ticks() - self._checked_at > FRESH_SECONDS:
            await self._read_revision()

    async def _read_revision(self) -> None:
        started_at = self._ticks()
        revision = await self.accounts.revision()
        if revision != self._revision:
            basics = await self.accounts.basics()
            if started_at < self._checked_at:
                return
            revision = basics.revision
            self._keys = {key.id: key.secret for key in basics.keys}
            self._signing_key_id = basics.keys[0].id if basics.keys else 0
            self._roles = {role.name: role for role in basics.roles}
        # A look that began earlier but ended later must not bring an old number back.
        if started_at >= self._checked_at:
            self._revision = revision
            self._checked_at = started_at
