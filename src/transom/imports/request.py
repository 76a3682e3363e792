"""What an import asks for: the body of `POST /v2/images/{image_id}/import` (API §10.1)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from transom.errors import InvalidBody, InvalidValue, UnknownImportStore
from transom.images.intake import known_algorithm
from transom.images.relocate import is_digest
from transom.model.image import Image
from transom.registry import Registry


class ImportRequest(msgspec.Struct, frozen=True, kw_only=True):
    """An import as it was asked for, checked for shape."""

    method: str
    source: dict[str, Any]
    """The method's own arguments."""
    body: dict[str, Any]
    """All of it, as the client sent it."""
    stores: tuple[str, ...]
    must_succeed: bool = True
    """False: one store that is filled is enough."""
    all_stores: bool = False
    expected: dict[str, str] = msgspec.field(default_factory=dict)
    """Digests (lower-case hex) that the source must have, by algorithm of hashlib."""

    def text(self, name: str) -> str:
        """A required text among the method's arguments. Raises InvalidBody."""
        value = self.source.get(name)
        if not isinstance(value, str) or not value:
            raise InvalidBody(f"Import method {self.method} needs 'method.{name}', a text.")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts among the method's arguments, empty if it is not there. Raises
        InvalidBody."""
        values = self.source.get(name, [])
        if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
            raise InvalidBody(f"'method.{name}' must be a list of texts.")
        return tuple(values)


def parsed(
    registry: Registry, body: dict[str, Any], methods: Collection[str], header_store: str | None
) -> ImportRequest:
    """The request of a body. `header_store` is the store that a header names. Raises InvalidBody,
    InvalidValue, UnknownImportStore."""
    method = body.get("method")
    if not isinstance(method, dict):
        raise InvalidBody("The body needs 'method', an object that holds the method's 'name'.")
    name = method.get("name")
    if not isinstance(name, str) or name not in methods:
        known = ", ".join(methods) or "none"
        raise InvalidBody(f"Unknown import method name '{name!s:.64}'; use one of: {known}.")
    all_stores = _flag(body, "all_stores", default=False)
    must_succeed = _flag(body, "all_stores_must_succeed", default=True)
    stores: Sequence[str] = (registry.stores.default,)
    if registry.announces_stores:
        stores = _stores(registry, body, header_store, all_stores=all_stores)
    elif not must_succeed:
        if body.get("all_stores") is not False:
            raise InvalidBody(
                "all_stores_must_succeed can only be false where there are more stores."
            )
        # Who says all defaults outright asks for nothing of several stores (decision 0091).
        must_succeed = True
    return ImportRequest(
        method=name,
        source=method,
        body=body,
        stores=tuple(dict.fromkeys(stores)),
        must_succeed=must_succeed,
        all_stores=all_stores,
        expected=_expected(method),
    )


def writable_stores(registry: Registry) -> tuple[str, ...]:
    """Names of the stores that data can be put into, in configured order."""
    stores = registry.stores
    return tuple(name for name in stores.names if stores.get(name).features.writable)


def missing_stores(registry: Registry, request: ImportRequest, image: Image) -> tuple[str, ...]:
    """The stores of a request to copy that do not hold the image yet. Raises InvalidBody for one
    that was named and does."""
    held = {location.store for location in image.locations}
    if not request.all_stores:
        for name in request.stores:
            if name in held:
                raise InvalidBody(f"Image is already present at store '{name}'.")
    return tuple(name for name in request.stores if name not in held)


def _stores(
    registry: Registry, body: dict[str, Any], header_store: str | None, *, all_stores: bool
) -> Sequence[str]:
    names = body.get("stores")
    if names is not None and (
        not isinstance(names, list) or not all(isinstance(name, str) for name in names)
    ):
        raise InvalidBody("'stores' must be a list of store ids.")
    if all_stores and (names or header_store):
        raise InvalidBody(
            "'all_stores' goes neither with 'stores' nor with the header x-image-meta-store."
        )
    if names and header_store:
        raise InvalidBody("Name the stores in the body or in the header x-image-meta-store.")
    writable = writable_stores(registry)
    if all_stores:
        return writable
    wanted = names or ([header_store] if header_store else [registry.stores.default])
    for name in wanted:
        if name not in writable:
            raise UnknownImportStore(name, writable)
    return wanted


def _flag(body: dict[str, Any], name: str, *, default: bool) -> bool:
    value = body.get(name, default)
    if not isinstance(value, bool):
        raise InvalidBody(f"'{name}' must be true or false.")
    return value


def _expected(method: dict[str, Any]) -> dict[str, str]:
    algorithm, value = method.get("os_hash_algo"), method.get("os_hash_value")
    if algorithm is None and value is None:
        return {}
    if not isinstance(algorithm, str) or not isinstance(value, str):
        raise InvalidBody("'method.os_hash_algo' and 'method.os_hash_value' go together.")
    known_algorithm(algorithm)
    value = value.lower()
    if not is_digest(algorithm, value):
        raise InvalidValue("os_hash_value", f"'{value:.80}' is no {algorithm} in hexadecimal")
    return {algorithm: value}
