"""What of a request goes into the audit log: CADF's words for it (DSP0262), never a secret."""

from __future__ import annotations

import datetime as dt
import re
import uuid
from http import HTTPStatus
from typing import Any, Final

import msgspec
from starlette.types import Message, Send

from transom.api.call import Call
from transom.audit import AuditLog
from transom.errors import TransomError

READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing. They are noted only when they are refused."""
REFUSED: Final = frozenset({401, 403})
CADF: Final = "http://schemas.dmtf.org/cloud/audit/1.0/event"
_VERBS: Final = {"POST": "create", "PUT": "update", "PATCH": "update", "DELETE": "delete"}
_ACTIONS: Final = {
    "image_import": "update/import",
    "image_deactivate": "disable",
    "image_reactivate": "enable",
    "image_task_cancel": "stop",
    "image_withdraw": "delete",
    "tag_add": "update/tag",
    "tag_remove": "update/untag",
    "token_create": "authenticate/login",
    "token_revoke": "revoke",
}
"""Operations whose method does not say what they do."""
_SERVICES: Final = {"image": "service/storage/image", "identity": "service/security"}
_BODY_BYTES_MAX: Final = 65536


class Watch:
    """Hands the messages of an answer on and remembers what the log asks for."""

    __slots__ = ("_body", "_send", "failure", "location", "status")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0
        """0 = no answer went out."""
        self.location = ""
        self.failure: TransomError | None = None
        self._body = b""

    async def send(self, message: Message) -> None:
        """Hand a message on."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            for name, value in message.get("headers", ()):
                if name.lower() == b"location":
                    self.location = value.decode("latin-1")
        elif self.status == 201 and not self._body:
            self._body = message.get("body", b"")
        await self._send(message)

    @property
    def made_id(self) -> str | None:
        """The id of what a 201 tells of."""
        if self.status != 201 or len(self._body) > _BODY_BYTES_MAX:
            return None
        try:
            made = msgspec.json.decode(self._body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            made = None
        # The Identity API wraps what it tells of: {"user": {"id": …}}.
        for each in (made, *(made.values() if isinstance(made, dict) and len(made) == 1 else ())):
            if isinstance(each, dict) and isinstance(each.get("id"), str):
                return str(each["id"])
        return self.location.rpartition("/")[2] or None


class Auditor:
    """Notes requests that change something, and those that are refused."""

    def __init__(self, log: AuditLog) -> None:
        self._log = log

    def note(self, call: Call, watch: Watch) -> None:
        """Write what became of a request."""
        if call.method not in READING or watch.status in REFUSED:
            self._log.write(_event(call, watch))


def _event(call: Call, watch: Watch) -> dict[str, Any]:
    method = call.method
    operation = "" if call.route is None else call.route.handler.__name__
    return {
        "typeURI": CADF,
        "id": str(uuid.uuid4()),
        "eventType": "activity",
        "eventTime": dt.datetime.now(dt.UTC).isoformat(timespec="microseconds"),
        "action": _ACTIONS.get(operation) or _VERBS.get(method, "read"),
        "operation": operation,
        "outcome": "success" if 0 < watch.status < 400 else "failure",
        "reason": _reason(watch),
        "initiator": _initiator(call),
        "target": _target(call, watch),
        "observer": {"typeURI": "service/storage/image", "id": "target"},
        "requestPath": _safe(call.scope["path"]),
        "request_id": call.request_id,
    }


def _reason(watch: Watch) -> dict[str, str]:
    # 0: the client was gone, or the service stopped, before an answer.
    reason = {"reasonType": "HTTP", "reasonCode": str(watch.status)}
    if watch.status:
        try:
            reason["phrase"] = HTTPStatus(watch.status).phrase
        except ValueError:
            reason["phrase"] = ""
    if watch.failure is not None:
        reason["error"] = type(watch.failure).__name__
    return reason


def _initiator(call: Call) -> dict[str, Any]:
    actor = call.actor
    return {
        "typeURI": "service/security/account/user",
        "id": actor.user_id,
        "name": actor.user_name,
        "domain_id": actor.user_domain_id,
        "project_id": actor.project_id,
        "project_name": actor.project_name,
        "system_scope": actor.system_scope,
        "roles": sorted(actor.roles),
        "service_roles": sorted(actor.service_roles),
        "host": {
            "address": call.client_address,
            "agent": _safe(call.headers.get("user-agent", "")),
        },
    }


def _target(call: Call, watch: Watch) -> dict[str, Any]:
    route = call.route
    if route is None:
        return {"typeURI": "unknown", "id": None}
    parts = [part for part in route.path.split("/") if part and not part.startswith("{")]
    kind = "/".join([_SERVICES.get(route.face, "service/compute"), *parts[1:]])
    target: dict[str, Any] = {"typeURI": kind, "id": None}
    for name, value in call.params.items():
        target["id"] = target[name] = _safe(value)
    if "image_id" in call.params:
        # Of an image's parts the image is what one looks for.
        target["id"] = target["image_id"]
    made = watch.made_id
    if made is not None:
        target["made_id" if target["id"] else "id"] = made
    return target


def _safe(text: str) -> str:
    """Text from a client, short and without what breaks readers of lines."""
    return re.sub(r"[\x00-\x1f\x7f]", "?", text)[:1024]
