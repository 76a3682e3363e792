"""One row of the route table: an endpoint as data."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from starlette.responses import Response

    from transom.api.call import Call
    from transom.settings import Settings

Face = Literal["image", "identity", "compute", "service"]
"""Whose manners an endpoint follows: how it names versions and renders errors."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter or header that an endpoint reads."""

    name: str
    description: str
    schema: dict[str, Any] = field(default_factory=lambda: {"type": "string"})
    where: Literal["query", "header"] = "query"
    repeats: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """An endpoint. The app, the OpenAPI document, the 405 answers, the reference and the coverage
    tests all derive from these rows.

    `path` holds `{name}` segments; paths of face `image` start with `/v2`, which stands for every
    accepted version prefix. `action` names the policy rule that decides. `answer` and `body` are
    types that msgspec can describe, or a dict with a JSON schema, or None. `errors` lists the
    statuses that the endpoint can answer besides the success and those that every endpoint of its
    face shares. `when` switches the row on for a configuration.
    """

    method: str
    path: str
    handler: Callable[[Call], Awaitable[Response]]
    summary: str
    success: int = 200
    also: tuple[int, ...] = ()
    """Further statuses that are no errors (206, 304 …)."""
    since: str = "2.0"
    action: str | None = None
    face: Face = "image"
    needs_token: bool = True
    parameters: tuple[Parameter, ...] = ()
    open_query: bool = False
    """Any further query parameter is a filter."""
    body: Any = None
    body_types: tuple[str, ...] = ("application/json",)
    body_required: bool = True
    answer: Any = None
    answer_type: str = "application/json"
    answer_headers: tuple[str, ...] = ()
    errors: tuple[int, ...] = ()
    tells_methods: bool = True
    """False: with another method the path is an unknown one, 404 instead of 405."""
    when: Callable[[Settings], bool] | None = None
