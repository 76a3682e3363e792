"""Events as CloudEvents 1.0 over HTTP: JSON in structured mode, signed as Standard Webhooks says.

The URL is the operator's own, so it may be anywhere; but only there: redirects are not followed, no
proxy of the environment is used, and what the receiver answers is not read but for its status.
"""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import Any, Final

import httpx
import msgspec

from transom import __version__
from transom.events.target import Undelivered
from transom.model.event import Outgoing

CONTENT_TYPE: Final = "application/cloudevents+json; charset=utf-8"
_MARK: Final = "whsec_"
_EVENT_ITSELF: Final = frozenset({400, 404, 405, 406, 409, 410, 411, 413, 414, 415, 422})
"""Statuses that speak of this event, or of a mistake in the set-up, rather than of a receiver that is
away. They are tried again too: the mistake may be mended."""


class Webhook:
    """One receiver."""

    def __init__(
        self,
        name: str,
        url: str,
        secret: str,
        *,
        source: str,
        timeout_seconds: float,
        verify: Any = True,
    ) -> None:
        """`source` says which deployment events come from."""
        self.name = name
        self._url = url
        self._key = key_of(secret)
        self._source = source
        self._timeout_seconds = timeout_seconds
        self._client = httpx.AsyncClient(
            follow_redirects=False,
            trust_env=False,
            verify=verify,
            timeout=timeout_seconds,
            limits=httpx.Limits(max_connections=16, max_keepalive_connections=8),
        )

    async def deliver(self, event: Outgoing) -> None:
        """Post the event. Raises Undelivered unless the answer is a 2xx, in time."""
        body = msgspec.json.encode(cloud_event(event, self._source))
        headers = {
            "content-type": CONTENT_TYPE,
            "user-agent": f"transom/{__version__}",
            **signed(self._key, event.event_id, dt.datetime.now(dt.UTC), body),
        }
        try:
            async with (
                asyncio.timeout(self._timeout_seconds),
                self._client.stream("POST", self._url, content=body, headers=headers) as answer,
            ):
                status, asked = answer.status_code, answer.headers.get("retry-after", "")
        except TimeoutError:
            raise Undelivered(
                f"no answer within {self._timeout_seconds:g} seconds", is_away=True
            ) from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise Undelivered(
                f"{type(error).__name__}: {error}".rstrip(": "), is_away=True
            ) from error
        if not 200 <= status < 300:
            raise Undelivered(
                f"it answered {status}",
                is_away=status not in _EVENT_ITSELF,
                wait_seconds=float(asked) if re.fullmatch("[0-9]{1,5}", asked) else None,
            )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def cloud_event(event: Outgoing, source: str) -> dict[str, Any]:
    """The event in the JSON format of CloudEvents 1.0."""
    told = {
        "specversion": "1.0",
        "id": event.event_id,
        "source": source,
        "type": event.type,
        "subject": event.subject,
        "time": event.created_at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "priority": str(event.priority).lower(),
        # Numbers grow; as texts of one length they sort as CloudEvents' extension `sequence` asks.
        "sequence": f"{event.number:020d}",
        "data": event.payload,
    }
    if event.request_id:
        told["requestid"] = event.request_id
    return told


def key_of(secret: str) -> bytes:
    """The key of a secret: base64 after `whsec_`, else the text itself."""
    if secret.startswith(_MARK):
        return base64.b64decode(secret.removeprefix(_MARK))
    return secret.encode()


def signed(key: bytes, event_id: str, moment: dt.datetime, body: bytes) -> Mapping[str, str]:
    """The header fields of Standard Webhooks for a body that is posted now."""
    stamp = str(int(moment.timestamp()))
    text = b".".join((event_id.encode(), stamp.encode(), body))
    digest = hmac.new(key, text, hashlib.sha256).digest()
    return {
        "webhook-id": event_id,
        "webhook-timestamp": stamp,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }
