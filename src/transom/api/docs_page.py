"""The page at `/docs`: the API, readable and searchable, without anything from the internet."""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import re
from functools import cache

from starlette.responses import HTMLResponse, Response

from transom.api.call import Call


async def docs(call: Call) -> Response:
    """`GET /docs`: one page of HTML that reads `openapi.json` beside it."""
    page, policy = _page()
    return HTMLResponse(page, headers={"content-security-policy": policy})


@cache
def _page() -> tuple[str, str]:
    """The page, and the policy that lets a browser run what is in it and nothing else."""
    folder = importlib.resources.files("transom.api").joinpath("docs_files")
    page = folder.joinpath("page.html").read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; connect-src 'self'; img-src data:; "
        f"script-src {_digest(page, 'script')}; style-src {_digest(page, 'style')}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page, policy


def _digest(page: str, element: str) -> str:
    found = re.search(f"<{element}>(.*?)</{element}>", page, re.DOTALL)
    if found is None:
        raise ValueError(f"the page has no <{element}>")
    digest = hashlib.sha256(found[1].encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
