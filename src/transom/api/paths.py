"""From a path to a route: the tree of the route table, and the version prefixes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from transom.api.route import Route

ALWAYS: Final = ("v2", *(f"v2.{minor}" for minor in (0, 1, 2, 3, 4, 5, 6, 7, 9, 15, 17)))
WITH_STORES: Final = tuple(f"v2.{minor}" for minor in (8, 10, 11, 12, 13))
WITH_CACHE: Final = tuple(f"v2.{minor}" for minor in (14, 16, 18))


class _Node:
    __slots__ = ("children", "name", "routes", "wildcard")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.wildcard: _Node | None = None
        self.name = ""
        self.routes: dict[str, Route] = {}


class Paths:
    """Finds the routes of a path. Literal segments win over parameters; a parameter is one
    segment that is not empty."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._root = _Node()
        for route in routes:
            node = self._root
            for segment in route.path.removeprefix("/").split("/"):
                if segment.startswith("{"):
                    if node.wildcard is None:
                        node.wildcard = _Node()
                        node.wildcard.name = segment[1:-1]
                    node = node.wildcard
                else:
                    node = node.children.setdefault(segment, _Node())
            node.routes[route.method] = route

    def find(self, segments: list[str]) -> tuple[dict[str, Route], dict[str, str]] | None:
        """The routes of a path by method, and its parameters; None when no route has the path."""
        params: dict[str, str] = {}
        node: _Node | None = self._walk(self._root, segments, 0, params)
        return None if node is None or not node.routes else (node.routes, params)

    def _walk(
        self, node: _Node, segments: list[str], position: int, params: dict[str, str]
    ) -> _Node | None:
        if position == len(segments):
            return node
        segment = segments[position]
        child = node.children.get(segment)
        if child is not None:
            found = self._walk(child, segments, position + 1, params)
            if found is not None and found.routes:
                return found
        if node.wildcard is not None and segment:
            params[node.wildcard.name] = segment
            return self._walk(node.wildcard, segments, position + 1, params)
        return None
