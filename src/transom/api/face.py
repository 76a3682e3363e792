"""The ASGI application: finds the route, the caller and the answer of every request."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from random import getrandbits
from time import perf_counter
from typing import Final
from urllib.parse import unquote_to_bytes

import structlog
from starlette.responses import RedirectResponse, Response
from starlette.types import Message, Receive, Scope, Send

from transom import tracing
from transom.api import problems
from transom.api.auditing import Auditor, Watch
from transom.api.call import AT_COMPUTE_BIND, Answer, Call
from transom.api.compression import compress, is_long
from transom.api.compute.versions import version_choices
from transom.api.discovery import version_document
from transom.api.metering import Meter, Passage, traced
from transom.api.paths import ALWAYS, WITH_CACHE, WITH_STORES, Paths
from transom.api.proxies import TrustedProxies
from transom.api.route import Face as FaceName
from transom.api.route import Route
from transom.api.routes import routes_for
from transom.errors import (
    ImageNotFound,
    Invalid,
    MethodNotAllowed,
    PathNotFound,
    PolicyRefused,
    ProjectMismatch,
    RequestIdTooLong,
    TransomError,
    Unauthenticated,
)
from transom.metrics.table import (
    HTTP_DRAINING,
    HTTP_RUNNING,
    IDENTITY_DURATION,
    IDENTITY_REMEMBERED,
)
from transom.model.actor import ANONYMOUS, Actor
from transom.registry import Registry
from transom.telemetry import request_id

_log = structlog.get_logger(__name__)
_VERSION_TYPE: Final = re.compile(r"application/vnd\.openstack\.images-(v[0-9.]+)")
_PROJECT: Final = re.compile("[0-9a-f-]+")
COMPUTE_VERSIONS: Final = ("v2", "v2.1")
"""Version prefixes of the Compute view."""

_UUID_KEEP: Final = ~(0xF << 76 | 0x3 << 62)
_UUID_MARK: Final = 0x4 << 76 | 0x2 << 62

Found = tuple[dict[str, Route], dict[str, str]] | None
Lifespan = Callable[[Scope, Receive, Send], Awaitable[None]]


class Face:
    """Transom over HTTP."""

    def __init__(self, registry: Registry) -> None:
        settings = registry.settings
        routes = routes_for(settings)
        self._registry = registry
        self._gzip_bytes_min = settings.server.gzip_bytes_min
        self._auditor = None if registry.audit is None else Auditor(registry.audit)
        self._proxies = TrustedProxies(settings.server.trusted_proxies)
        self._running: set[asyncio.Task[object]] = set()
        self._meter = Meter() if settings.metrics.bind else None
        self._remembered = IDENTITY_REMEMBERED.at()
        HTTP_RUNNING.watch(lambda: len(self._running))
        HTTP_DRAINING.at().set(0)
        self.lifespan: Lifespan | None = None
        self._paths = Paths(routes)
        self._own: dict[str, FaceName] = {
            route.path.split("/")[1]: route.face for route in routes if route.face != "image"
        }
        self._versions = frozenset(
            (
                *ALWAYS,
                *(WITH_STORES if registry.announces_stores else ()),
                *(WITH_CACHE if settings.cache.enabled else ()),
            )
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or go through the server's start and stop."""
        if scope["type"] == "lifespan" and self.lifespan is not None:
            await self.lifespan(scope, receive, send)
        elif scope["type"] == "http":
            task = asyncio.current_task()
            assert task is not None
            self._running.add(task)
            try:
                if self._meter is None and not tracing.is_on():
                    await self._handle(self._call(scope, receive), send)
                else:
                    await self._measured(scope, receive, send)
            finally:
                self._running.discard(task)

    def drain(self) -> None:
        """Say to those who ask whether it is ready that it is not any more."""
        self._registry.draining.set()
        HTTP_DRAINING.at().set(1)

    async def finish(self, seconds: float) -> None:
        """Let running requests end, at most so long, then cancel the rest and wait for them."""
        self.drain()
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _measured(self, scope: Scope, receive: Receive, send: Send) -> None:
        passage = Passage(receive, send)
        call = self._call(scope, passage.receive)
        try:
            with traced(call, passage):
                await self._handle(call, passage.send)
        finally:
            if self._meter is not None:
                self._meter.note(call, passage)

    def _call(self, scope: Scope, receive: Receive) -> Call:
        return Call(scope, receive, self._registry, self._proxies)

    async def _handle(self, call: Call, send: Send) -> None:
        if self._auditor is None:
            await self._respond(call, send)
            return
        watch = Watch(send)
        try:
            watch.failure = await self._respond(call, watch.send)
        finally:
            self._auditor.note(call, watch)

    async def _respond(self, call: Call, send: Send) -> TransomError | None:
        """Answer the request; gives what it failed with."""
        failure: TransomError | None = None
        sent: _Sent | None = None
        try:
            response = await self._answer(call)
            self._sign(call, response)
            if is_long(response, self._gzip_bytes_min):
                await compress(response, call.headers)
            sent = _Sent(send)
            if isinstance(response, Answer):
                # Nothing but the connection can fail between its two messages.
                sent.started = True
                await response(call.scope, call.receive, send)
            else:
                await response(call.scope, call.receive, sent.send)
        except TransomError as error:
            failure = error
        except Exception:  # noqa: BLE001 - the border: whatever escapes becomes a 500 and a log line
            _log.exception("request.failed", path=call.scope["path"])
        else:
            return None
        if sent is not None and sent.started:
            # The status line is out: ending the connection is the only way left to tell.
            raise ConnectionAbortedError("the answer broke off after its first byte")
        await call.drain()
        response = self._problem(call, failure)
        await response(call.scope, call.receive, send)
        return failure

    def _problem(self, call: Call, failure: TransomError | None) -> Response:
        challenge = self._registry.identity.www_authenticate.replace("{base}", call.base_url)
        response = problems.answer(
            failure,
            face=call.face,
            method=call.method,
            accept=call.headers.get("accept"),
            request_id=call.request_id,
            www_authenticate=challenge,
        )
        self._sign(call, response)
        return response

    def _sign(self, call: Call, response: Response) -> None:
        if self._registry.draining.is_set() and call.scope["http_version"].startswith("1"):
            # A proxy that keeps connections would send its next request on one that is about to end,
            # and may not send a POST again. HTTP/2 has no such header, and says so by itself.
            response.raw_headers.append((b"connection", b"close"))
        if call.request_id:
            response.raw_headers.append(
                (b"x-openstack-request-id", call.request_id.encode("latin-1"))
            )
        if call.face == "compute":
            headers = response.headers
            headers["x-compute-request-id"] = call.request_id
            if call.microversion:
                headers["openstack-api-version"] = f"compute {call.microversion}"
                headers["x-openstack-nova-api-version"] = call.microversion
                headers["vary"] = "OpenStack-API-Version, X-OpenStack-Nova-API-Version"

    async def _answer(self, call: Call) -> Response:
        # Errors have the form of their face, those too that come before the path is understood.
        at_bind = AT_COMPUTE_BIND in call.scope
        head = call.scope["path"].removeprefix("/").partition("/")[0]
        call.face = "compute" if at_bind else self._own.get(head, "image")
        call.request_id = self._request_id(call.headers)
        request_id.set(call.request_id)
        segments = _segments(call.scope)
        first = segments[0]
        if at_bind:
            return await self._compute(call, ["compute", *segments])
        if first == "compute":
            call.mount = "/compute"
            return await self._compute(call, segments)
        if first in self._own:
            return await self._route(call, segments)
        if first not in self._versions:
            version = _VERSION_TYPE.search(call.headers.get("accept", ""))
            if version is None or version[1] not in self._versions:
                call.request_id = ""
                return version_document(call, 300)
            segments = ["v2", *segments]
        elif len(segments) == 1:
            call.request_id = ""
            return RedirectResponse(f"{call.base_url}/{first}/", 302)
        call.version = first
        segments[0] = "v2"
        return await self._route(call, segments)

    async def _compute(self, call: Call, segments: list[str]) -> Response:
        call.version = segments[1] if len(segments) > 1 else ""
        if call.version not in ("", *COMPUTE_VERSIONS):
            return version_choices(call, "/".join(segments[1:]))
        return await self._route(call, segments)

    def _compute_instead(self, call: Call, segments: list[str], found: Found) -> Found:
        # Where the two faces share a port, the Image API's own paths win. A first segment that is no
        # project is an unknown path of the Image API, as the error example of seed 001 shows.
        if found is not None or "images" not in segments:
            return found
        instead = self._paths.find(["compute", call.version, *segments[1:]])
        if instead is None:
            return found
        project = instead[1].get("project_id")
        if project in (None, call.actor.project_id) or _PROJECT.fullmatch(str(project)):
            return instead
        return found

    async def at_compute_bind(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The Compute view alone, at the root of an address of its own."""
        await self({**scope, AT_COMPUTE_BIND: True}, receive, send)

    def _request_id(self, headers: Mapping[str, str]) -> str:
        given = headers.get("x-openstack-request-id")
        if not given:
            return f"req-{_any_uuid()}"
        length_max = self._registry.settings.limits.request_id_length_max
        if len(given) > length_max:
            raise RequestIdTooLong(length_max)
        return given if given.startswith("req-") else f"req-{given}"

    async def _route(self, call: Call, segments: list[str]) -> Response:
        found = self._paths.find(segments)
        method = call.method
        # Logging in needs no token where looking at a token does: the method's own row decides.
        row = None if found is None else found[0].get(method) or next(iter(found[0].values()))
        if row is None or row.needs_token:
            if row is not None:
                call.face = row.face
            call.actor = await self._caller(call.headers)
            if call.face == "image" and call.version in COMPUTE_VERSIONS:
                found = self._compute_instead(call, segments, found)
        if found is None:
            raise PathNotFound
        routes, call.params = found
        call.route = routes.get(method) or next(iter(routes.values()))
        call.face = call.route.face
        if call.face == "compute":
            _check_project(call)
        route = routes.get(method)
        if route is None:
            if not call.route.tells_methods:
                raise PathNotFound
            raise MethodNotAllowed(method, _allowed(routes))
        if route.face == "service":
            call.request_id = ""
        elif route.action is not None:
            self._check_scope(call, route.action)
        return await route.handler(call)

    def _check_scope(self, call: Call, rule: str) -> None:
        # Before any image is looked up: tokens of the wrong scope learn nothing (decision 31).
        try:
            self._registry.policy.check_scope(call.actor, rule)
        except PolicyRefused:
            image_id = call.params.get("image_id")
            if image_id is None:
                raise
            raise ImageNotFound(image_id) from None

    async def _caller(self, headers: Mapping[str, str]) -> Actor:
        identity = self._registry.identity
        token = headers.get("x-auth-token")
        service_token = headers.get("x-service-token")
        actor = identity.authenticate_now(token, service_token)
        if actor is None:
            try:
                actor = await self._asked(token, service_token)
            except Unauthenticated:
                if not self._registry.settings.identity.allow_anonymous:
                    raise
                return ANONYMOUS
        else:
            self._remembered.value += 1
        return self._registry.policy.recognise(actor)

    async def _asked(self, token: str | None, service_token: str | None) -> Actor:
        began = perf_counter()
        outcome = "unavailable"
        try:
            actor = await self._registry.identity.authenticate(token, service_token)
            outcome = "accepted"
        except Unauthenticated:
            outcome = "refused"
            raise
        finally:
            IDENTITY_DURATION.at(outcome).observe(perf_counter() - began)
        return actor


class _Sent:
    """Remembers whether the answer has begun."""

    __slots__ = ("_send", "started")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False

    async def send(self, message: Message) -> None:
        self.started = True
        await self._send(message)


def _any_uuid() -> str:
    """A UUID version 4 (RFC 9562 §5.4), quicker than `uuid.uuid4`: it names, and guards nothing."""
    number = getrandbits(128) & _UUID_KEEP | _UUID_MARK
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _check_project(call: Call) -> None:
    in_path = call.params.get("project_id")
    if in_path is not None and in_path != call.actor.project_id:
        raise ProjectMismatch(in_path, call.actor.project_id)


def _segments(scope: Scope) -> list[str]:
    raw = scope.get("raw_path") or scope["path"].encode()
    raw = raw.partition(b"?")[0]
    try:
        path = (unquote_to_bytes(raw) if b"%" in raw else raw).decode()
    except UnicodeDecodeError as broken:
        raise Invalid("The path must be percent-encoded UTF-8.") from broken
    if "\0" in path or not (path.isascii() or max(path) <= "\uffff"):
        raise Invalid(
            "The path holds characters that are refused: NUL, or outside the Basic Multilingual "
            "Plane."
        )
    return path.removeprefix("/").split("/")


def _allowed(routes: dict[str, Route]) -> tuple[str, ...]:
    return tuple(method for method in ("GET", "POST", "PUT", "PATCH", "DELETE") if method in routes)
