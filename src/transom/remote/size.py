"""How much lies behind a URL, asked with HEAD: for servers that do not tell it with the data."""

from __future__ import annotations

from transom.errors import FetchFailed
from transom.remote.fetch import REDIRECTS_MAX
from transom.remote.guard import Guard
from transom.remote.wire import Failure, Wire

_REDIRECTS = frozenset({301, 302, 303, 307, 308})


async def announced_size(guard: Guard, url: str) -> int | None:
    """The Content-Length (bytes) that a HEAD of the URL gives; None when it gives none.

    Raises UrlRefused for it or where it redirects to, FetchFailed when nobody answers.
    """
    target = guard.check(url)
    for _ in range(REDIRECTS_MAX + 1):
        try:
            wire = await Wire.open(guard, target, await guard.addresses_to_dial(target))
            try:
                head = await wire.ask(target, {}, method="HEAD")
            finally:
                wire.close()
        except Failure as failure:
            raise FetchFailed(failure.sentence, retryable=failure.again) from failure
        except OSError as error:
            raise FetchFailed(retryable=True) from error
        if head.status not in _REDIRECTS:
            return head.length_bytes if head.status == 200 else None
        target = guard.check_redirect(target, head.headers.get("location", ""))
    return None
