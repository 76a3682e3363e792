"""A client of Keystone v3 that knows two questions: whom does this token speak for, and how much
may this project have?

It logs in as the service user, asks, and logs in again when its own token ends. Whatever keeps it
from an answer is IdentityUnavailable: a token is called invalid only when Keystone says so.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

import msgspec
import structlog

from transom import tracing
from transom.auth.keystone.catalogue import Catalogue
from transom.auth.keystone.circuit import Circuit
from transom.auth.keystone.limits import Limits, RegisteredLimits, Services, effective
from transom.auth.keystone.token import Token, decode, seconds
from transom.errors import IdentityUnavailable
from transom.metrics.table import KEYSTONE_AHEAD, KEYSTONE_DURATION, KEYSTONE_UP
from transom.settings import Keystone

if TYPE_CHECKING:
    import httpx

log = structlog.get_logger(__name__)

T = TypeVar("T")

CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 8.0
"""Longest time that Keystone may take for one answer."""
WAIT_SECONDS = 10.0
"""Longest time that a caller waits in all."""
REQUESTS_MAX = 16
"""Requests to Keystone at a time."""
WAITING_MAX = 512
"""Callers that may wait for their turn; further ones are turned away at once."""
LOGIN_REFUSED_PAUSE_SECONDS = 15.0
"""Pause after Keystone refused the service user: it may lock users out who try too often."""
_RENEW_SECONDS_BEFORE_END = 60.0
_ANSWER_BYTES_MAX = 1024 * 1024


class _Failed(Exception):
    """Keystone did not give an answer that can be used; asking again later may help."""

    def __init__(self, reason: str, *, pause_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.pause_seconds = pause_seconds


class _Answer(msgspec.Struct):
    """What came back from Keystone."""

    status: int
    subject_token: str
    body: bytes


class _Login:
    """The service user's token of one scope."""

    def __init__(self, scope: dict[str, object]) -> None:
        self.scope = scope
        self.token = ""
        self.ends_at = 0.0
        """Moment at which it is renewed, on the monotonic clock."""
        self.lock = asyncio.Lock()


class KeystoneClient:
    """One Keystone, asked by one service user."""

    def __init__(self, settings: Keystone, *, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._settings = settings
        self._answer_seconds = answer_seconds
        self._base = versioned(settings.auth_url)
        self._circuit = Circuit()
        # Apart, so that limits which cannot be read keep nobody from logging in.
        self._limits_circuit = Circuit()
        self._turns = asyncio.Semaphore(REQUESTS_MAX)
        self._waiting = 0
        self._http: httpx.AsyncClient | None = None
        self._login = _Login(
            {
                "project": {
                    "name": settings.project_name,
                    "domain": {"name": settings.project_domain_name},
                }
            }
        )
        # Keystone shows the limits of a project only to itself and to the system's readers.
        self._system_login = _Login({"system": {"all": True}})
        self._service_id = ""
        KEYSTONE_UP.watch(lambda: self._circuit.is_closed)
        self.skew_seconds = 0.0
        """How far Keystone's clock is ahead of ours, as seen at the last login."""

    async def describe(self, token: str, *, allow_expired: bool = False) -> Token | None:
        """Keystone's description of a token; None when Keystone says that it is not valid.

        `allow_expired` takes tokens that have ended, as far as Keystone's grace for them goes.
        Raises IdentityUnavailable when Keystone gives no answer that can be used.
        """
        return await self._in_turn(
            self._circuit, lambda: self._describe(token, allow_expired=allow_expired)
        )

    async def limits_of(self, project_id: str) -> dict[str, int]:
        """The unified limits of the image service for a project, by resource name; -1 = unlimited.

        Raises IdentityUnavailable when Keystone gives no answer that can be used.
        """
        return await self._in_turn(self._limits_circuit, lambda: self._limits_of(project_id))

    async def image_endpoint(self, token: str, region: str, interface: str) -> str | None:
        """The URL of the image service of a region, as the catalogue of a user's token has it; None
        when it has none. Raises IdentityUnavailable."""
        return await self._in_turn(
            self._circuit, lambda: self._image_endpoint(token, region, interface)
        )

    async def _in_turn(self, circuit: Circuit, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask Keystone unless it is known to be away, a bounded number of callers at a time."""
        if self._waiting >= WAITING_MAX:
            raise IdentityUnavailable("too many requests are waiting for it")
        ticket = circuit.enter()
        self._waiting += 1
        asked = False
        try:
            async with asyncio.timeout(WAIT_SECONDS), self._turns:
                # It may have turned out to be away while this caller waited for its turn.
                circuit.still(ticket)
                asked = True
                answer = await ask()
        except TimeoutError:
            if not asked:
                # It is slow and not away: the turn of this caller never came.
                circuit.given_up()
                raise IdentityUnavailable("too many requests are waiting for it") from None
            raise self._away(circuit, ticket, _Failed("it did not answer in time")) from None
        except _Failed as failure:
            raise self._away(circuit, ticket, failure) from failure
        except asyncio.CancelledError:
            circuit.given_up()
            raise
        finally:
            self._waiting -= 1
        circuit.succeeded()
        return answer

    async def close(self) -> None:
        """Free connections."""
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    # --- questions ---

    async def _describe(self, token: str, *, allow_expired: bool) -> Token | None:
        own = await self._own(self._login)
        answer = await self._ask(own, token, allow_expired=allow_expired)
        if answer.status == 401 and not await self._is_good(own):
            # Keystone meant our own token and not the one asked about.
            own = await self._log_in(self._login, instead_of=own)
            answer = await self._ask(own, token, allow_expired=allow_expired)
            if answer.status == 401 and not await self._is_good(own):
                raise _Failed("it refuses the service user's token")
        if answer.status == 401:
            return None
        if answer.status == 404:
            # 404 is a verdict only in Keystone's own words: proxies and wrong paths say it too.
            if _is_keystones_error(answer):
                return None
            raise _Failed("its answer is not Keystone's; check identity.keystone.auth_url")
        if answer.status == 403:
            log.error(
                "keystone refuses to describe tokens",
                user=self._settings.username,
                remedy="give the service user role admin or service in its project",
            )
            raise _Failed("the service user may not validate tokens")
        return _described(answer)

    async def _ask(self, own: str, token: str, *, allow_expired: bool = False) -> _Answer:
        return await self._send(
            "GET",
            "/auth/tokens?nocatalog" + ("&allow_expired=1" if allow_expired else ""),
            headers={"x-auth-token": own, "x-subject-token": token},
        )

    async def _is_good(self, own: str) -> bool:
        return (await self._ask(own, own)).status == 200

    async def _image_endpoint(self, token: str, region: str, interface: str) -> str | None:
        answer = await self._send("GET", "/auth/catalog", headers={"x-auth-token": token})
        if answer.status in (401, 403, 404):
            return None
        if answer.status != 200:
            raise _Failed(f"it answered with status {answer.status}")
        try:
            catalog = msgspec.json.decode(answer.body, type=Catalogue)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise _Failed("its answer is not Keystone's") from error
        return catalog.find("image", region, interface)

    async def _limits_of(self, project_id: str) -> dict[str, int]:
        if not self._service_id:
            services = await self._read_list("/services?type=image", Services)
            if not services.services:
                raise _Failed("it knows no service of type image, so there are no limits for it")
            self._service_id = services.services[0].id
        chosen = f"service_id={quote(self._service_id)}"
        registered, own = await asyncio.gather(
            self._read_list(f"/registered_limits?{chosen}", RegisteredLimits),
            self._read_list(f"/limits?{chosen}&project_id={quote(project_id)}", Limits),
        )
        return effective(registered, own, project_id)

    async def _read_list(self, path: str, kind: type[T]) -> T:
        """A list of Keystone's, read with a token for the system."""
        own = await self._own(self._system_login)
        answer = await self._send("GET", path, headers={"x-auth-token": own})
        if answer.status == 401:
            own = await self._log_in(self._system_login, instead_of=own)
            answer = await self._send("GET", path, headers={"x-auth-token": own})
        if answer.status == 403:
            log.error(
                "keystone refuses to show limits",
                user=self._settings.username,
                remedy="give the service user role reader on the system (--system all)",
            )
            raise _Failed("the service user may not read limits")
        if answer.status != 200:
            raise _Failed(f"it answered with status {answer.status}")
        try:
            return msgspec.json.decode(answer.body, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise _Failed("its answer is not Keystone's") from error

    # --- logging in ---

    async def _own(self, login: _Login) -> str:
        own = login.token
        if time.monotonic() < login.ends_at:
            return own
        return await self._log_in(login, instead_of=own)

    async def _log_in(self, login: _Login, *, instead_of: str) -> str:
        """A new token of our own; the one that somebody else has just got does as well."""
        async with login.lock:
            if login.token != instead_of:
                return login.token
            asked_at = time.time()
            answer = await self._send(
                "POST", "/auth/tokens?nocatalog", body=self._credentials(login)
            )
            if answer.status == 401:
                log.error(
                    "keystone refuses the service user",
                    user=self._settings.username,
                    scope=next(iter(login.scope)),
                    remedy="check [identity.keystone] username, password, project and domains; "
                    "unified limits need a role on the system besides",
                )
                raise _Failed(
                    "it refuses the service user", pause_seconds=LOGIN_REFUSED_PAUSE_SECONDS
                )
            if answer.status != 201:
                raise _Failed(f"logging in gave status {answer.status}")
            described = _described(answer)
            token = answer.subject_token
            ends = seconds(described.expires_at)
            if not token or ends is None:
                raise _Failed("logging in gave no token")
            began = seconds(described.issued_at)
            ahead = 0.0 if began is None else began - asked_at
            KEYSTONE_AHEAD.at().set(ahead)
            # Keystone looked at its clock at some time since we asked, taken for the earliest moment,
            # and told it in whole seconds, taken for the end of that one: neither a slow login nor one
            # late in a second lets a verdict outlive its token.
            is_cut = began is not None and began.is_integer()
            self.skew_seconds = ahead + 1.0 if is_cut else ahead
            life = ends - time.time() - self.skew_seconds
            login.token = token
            # A short-lived token is renewed after half its life.
            login.ends_at = time.monotonic() + max(life - _RENEW_SECONDS_BEFORE_END, life / 2)
            return token

    def _credentials(self, login: _Login) -> bytes:
        settings = self._settings
        user = {
            "name": settings.username,
            "domain": {"name": settings.user_domain_name},
            "password": settings.password,
        }
        identity = {"methods": ["password"], "password": {"user": user}}
        return msgspec.json.encode({"auth": {"identity": identity, "scope": login.scope}})

    # --- the wire ---

    async def _send(
        self,
        method: str,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
    ) -> _Answer:
        """One request; a connection that broke and a 5xx are tried a second time."""
        request_headers = {"accept": "application/json", **(headers or {})}
        if body is not None:
            request_headers["content-type"] = "application/json"
        outcome, began = "failed", time.perf_counter()
        try:
            with tracing.call_span(f"keystone {method}", request_headers):
                answer = await self._sent(method, path, request_headers, body)
            outcome = "ok"
        finally:
            KEYSTONE_DURATION.at(outcome).observe(time.perf_counter() - began)
        return answer

    async def _sent(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None
    ) -> _Answer:
        import httpx

        client = self._client()
        reason = ""
        for _attempt in range(2):
            try:
                async with client.stream(
                    method, self._base + path, headers=headers, content=body
                ) as response:
                    answer = await _read(response)
            except httpx.TimeoutException as error:
                # It is slow or hangs: a second try would only add to its load.
                raise _Failed("it did not answer in time") from error
            except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
                reason = f"no connection: {type(error).__name__}"
                continue
            if answer.status < 500 and answer.status not in {408, 429}:
                return answer
            reason = f"it answered with status {answer.status}"
        raise _Failed(reason)

    def _client(self) -> httpx.AsyncClient:
        if self._http is None:
            import httpx

            # At level DEBUG it logs headers, and with them tokens.
            logging.getLogger("httpcore").setLevel(logging.INFO)
            secure = self._base.startswith("https:")
            self._http = httpx.AsyncClient(
                timeout=httpx.Timeout(self._answer_seconds, connect=CONNECT_SECONDS),
                limits=httpx.Limits(
                    max_connections=REQUESTS_MAX + 1, max_keepalive_connections=REQUESTS_MAX
                ),
                # The system's authorities, which is where operators put their own.
                verify=ssl.create_default_context() if secure else False,
                follow_redirects=False,
            )
        return self._http

    def _away(self, circuit: Circuit, ticket: int, failure: _Failed) -> IdentityUnavailable:
        reason = str(failure)
        if circuit.failed(ticket, reason, pause_seconds=failure.pause_seconds):
            log.warning("keystone is not available", auth_url=self._base, reason=reason)
        return IdentityUnavailable(reason)


async def _read(response: httpx.Response) -> _Answer:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > _ANSWER_BYTES_MAX:
            raise _Failed("its answer is too long")
    token = response.headers.get("x-subject-token", "")
    return _Answer(response.status_code, token, bytes(body))


def _described(answer: _Answer) -> Token:
    if answer.status not in {200, 201}:
        raise _Failed(f"it answered with status {answer.status}")
    try:
        return decode(answer.body).token
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _Failed("its answer is not Keystone's") from error


def _is_keystones_error(answer: _Answer) -> bool:
    try:
        body = msgspec.json.decode(answer.body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
    return isinstance(body, dict) and isinstance(body.get("error"), dict)


def versioned(auth_url: str) -> str:
    """The base of the v3 API for a URL with or without `/v3`."""
    base = auth_url.rstrip("/")
    return base if base.endswith("/v3") else f"{base}/v3"
