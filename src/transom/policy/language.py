"""The policy language: check strings to trees.

    check   = or                        or  = and { "or" and }         and = not { "and" not }
    not     = "not" not | "(" or ")" | leaf
    leaf    = "@" | "!" | kind ":" match

This is the language of oslo.policy (its list-of-lists form too), read strictly: what oslo.policy
would log and then refuse at every request is refused here when the file is read, with the reason.
`tests/unit/test_policy_language.py` holds the two against each other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

import msgspec

from transom.errors import ConfigurationError


class Always(msgspec.Struct, frozen=True):
    """`@` and `!`, and the empty check string, which is `@`."""

    verdict: bool


class Role(msgspec.Struct, frozen=True):
    """`role:<template>`: the caller has the role, in any case of letters."""

    match: Template


class Named(msgspec.Struct, frozen=True):
    """`rule:<name>`: another rule passes."""

    name: str


class Equals(msgspec.Struct, frozen=True):
    """`<credential>:<template>`: a credential of the caller has the value, or one of its values."""

    credential: str
    match: Template


class Literal(msgspec.Struct, frozen=True):
    """`'text':<template>`: the target has the value."""

    text: str
    match: Template


class Foreign(msgspec.Struct, frozen=True):
    """A check that only oslo.policy or a plug-in of it can judge: `http:`, `https:`, …"""

    kind: str
    match: str


class Both(msgspec.Struct, frozen=True):
    """`… and …`"""

    parts: tuple[Node, ...]


class Either(msgspec.Struct, frozen=True):
    """`… or …`"""

    parts: tuple[Node, ...]


class Not(msgspec.Struct, frozen=True):
    """`not …`"""

    part: Node


Node = Always | Role | Named | Equals | Literal | Foreign | Both | Either | Not


class Template(msgspec.Struct, frozen=True):
    """Text with `%(key)s` in it. `pieces` alternates: text, key, text, key, …, text."""

    pieces: tuple[str, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the target that it reads."""
        return self.pieces[1::2]

    @property
    def text(self) -> str | None:
        """The whole text if it reads nothing of the target, else None."""
        return self.pieces[0] if len(self.pieces) == 1 else None

    @property
    def key(self) -> str | None:
        """The key if the template is nothing but `%(key)s`, else None."""
        if len(self.pieces) == 3 and not self.pieces[0] and not self.pieces[2]:
            return self.pieces[1]
        return None


_TEMPLATE = re.compile(r"%(?:%|\(([^()]*)\)s)")
_BLANK = re.compile(r"\s+")

IsForeign = Callable[[str], bool]
"""Tells whether a kind of check belongs to a plug-in of oslo.policy."""


def parse_rules(rules: Mapping[str, object], is_foreign: IsForeign) -> dict[str, Node]:
    """The trees of a table of rules. Raises ConfigurationError, which names the rule."""
    trees = {}
    for name, check in rules.items():
        try:
            trees[name] = parse(check, is_foreign)
        except ConfigurationError as error:
            raise ConfigurationError(f"rule '{name}': {error}") from error
    return trees


def parse(check: object, is_foreign: IsForeign) -> Node:
    """The tree of one check: a check string, a list of lists (or of and), or nothing (`@`).

    Raises ConfigurationError, which quotes the part that cannot be understood.
    """
    if check is None:
        return Always(verdict=True)
    if isinstance(check, str):
        # Only the empty string permits: blanks alone are a mistake, as in oslo.policy.
        return _Reader(check, is_foreign).read() if check else Always(verdict=True)
    if isinstance(check, list):
        return _parse_lists(check, is_foreign)
    raise ConfigurationError(
        f'{check!r} is not a check string; write it in quotes, for example "role:member"'
    )


def _parse_lists(check: list[object], is_foreign: IsForeign) -> Node:
    """The old form: a list of alternatives, each a list of checks that must all pass."""
    if not check:
        return Always(verdict=True)
    alternatives: list[Node] = []
    for inner in check:
        if not inner:
            continue
        leaves = [inner] if isinstance(inner, str) else inner
        if not isinstance(leaves, list) or not all(isinstance(leaf, str) for leaf in leaves):
            raise ConfigurationError(f"{inner!r} is not a list of checks")
        parts = tuple(_leaf(leaf, is_foreign) for leaf in leaves)
        alternatives.append(parts[0] if len(parts) == 1 else Both(parts))
    if not alternatives:
        return Always(verdict=False)
    return alternatives[0] if len(alternatives) == 1 else Either(tuple(alternatives))


def _words(check: str) -> Iterator[str]:
    """Words, with the parentheses before and after them split off.

    Parentheses inside a word belong to it: `%(project_id)s`.
    """
    for word in _BLANK.split(check):
        bare = word.lstrip("(")
        yield from "(" * (len(word) - len(bare))
        if bare:
            core = bare.rstrip(")")
            if core:
                yield core
            yield from ")" * (len(bare) - len(core))


class _Reader:
    """Reads one check string by recursive descent."""

    def __init__(self, check: str, is_foreign: IsForeign) -> None:
        self._check = check
        self._is_foreign = is_foreign
        self._words = list(_words(check))
        self._at = 0

    def read(self) -> Node:
        """The tree of the whole string."""
        node = self._either()
        if self._at < len(self._words):
            raise self._error(f"'{self._words[self._at]}' is not expected there")
        return node

    def _either(self) -> Node:
        parts = [self._both()]
        while self._take("or"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def _both(self) -> Node:
        parts = [self._not()]
        while self._take("and"):
            parts.append(self._not())
        return parts[0] if len(parts) == 1 else Both(tuple(parts))

    def _not(self) -> Node:
        if self._take("not"):
            return Not(self._not())
        if self._take("("):
            node = self._either()
            if not self._take(")"):
                raise self._error("a ')' is missing")
            return node
        if self._at == len(self._words):
            raise self._error("it ends where a check is expected")
        word = self._words[self._at]
        if word == ")" or word.lower() in {"and", "or"}:
            raise self._error(f"'{word}' stands where a check is expected")
        self._at += 1
        return _leaf(word, self._is_foreign)

    def _take(self, word: str) -> bool:
        if self._at < len(self._words) and self._words[self._at].lower() == word:
            self._at += 1
            return True
        return False

    def _error(self, reason: str) -> ConfigurationError:
        return ConfigurationError(f'cannot read "{self._check}": {reason}')


def _leaf(text: str, is_foreign: IsForeign) -> Node:
    """One check: `@`, `!`, or kind and match."""
    if text in {"@", "!"}:
        return Always(verdict=text == "@")
    kind, colon, match = text.partition(":")
    if not colon:
        raise ConfigurationError(
            f"'{text}' is not a check; write what is compared, for example role:{text}"
        )
    if kind == "rule":
        return Named(match)
    if kind == "role":
        return Role(_template(match))
    if is_foreign(kind):
        return Foreign(kind, match)
    # Few rules have a quoted text in front, and those of the defaults need no more than this.
    if len(kind) > 2 and kind[0] == kind[-1] == "'" and kind[1:-1].isalnum():
        return Literal(kind[1:-1], _template(match))
    if kind.isidentifier() and kind not in {"True", "False", "None"}:
        return Equals(kind, _template(match))
    import ast

    try:
        return Literal(str(ast.literal_eval(kind)), _template(match))
    except ValueError:
        return Equals(kind, _template(match))
    except (SyntaxError, TypeError) as error:
        raise ConfigurationError(
            f"'{kind}' in '{text}' is neither a credential nor a quoted text"
        ) from error


def _template(match: str) -> Template:
    """The template of a match; `%%` stands for `%`."""
    pieces = [""]
    at = 0
    for found in _TEMPLATE.finditer(match):
        pieces[-1] += _plain(match, match[at : found.start()])
        if found[1] is None:
            pieces[-1] += "%"
        else:
            pieces += [found[1], ""]
        at = found.end()
    pieces[-1] += _plain(match, match[at:])
    return Template(tuple(pieces))


def _plain(match: str, text: str) -> str:
    if "%" in text:
        raise ConfigurationError(
            f"'{match}' has a '%' that begins no %(key)s; write %% for the character itself"
        )
    return text


def named_in(node: Node) -> Iterator[str]:
    """The names of the rules that a tree refers to."""
    match node:
        case Named(name):
            yield name
        case Both(parts) | Either(parts):
            for part in parts:
                yield from named_in(part)
        case Not(part):
            yield from named_in(part)


def verify_references(trees: Mapping[str, Node]) -> None:
    """Every rule that is referred to exists, and none refers to itself over any way.

    Raises ConfigurationError, which names the rules.
    """
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            cycle = " -> ".join((*path[path.index(name) :], name))
            raise ConfigurationError(f"rule '{name}' refers to itself: {cycle}")
        if name in done:
            return
        for other in named_in(trees[name]):
            if other not in trees:
                raise ConfigurationError(
                    f"rule '{name}' refers to rule '{other}', which does not exist"
                )
            visit(other, (*path, name))
        done.add(name)

    for name in trees:
        visit(name, ())
