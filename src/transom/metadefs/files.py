"""Namespaces as JSON files, one each: the form in which Glance ships them (API §20).

A file is what a request for a new namespace would carry. What says nothing in it, such as an empty
list, is not written again; otherwise what is read, stored and written says the same.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from transom.errors import ConfigurationError, TransomError
from transom.metadefs.shapes import NamespaceBody, contents_of, namespace_of, shaped
from transom.model.metadef import Contents, Namespace


@dataclass(frozen=True, slots=True)
class Source:
    """What a file says."""

    path: Path
    namespace: Namespace
    contents: Contents


def read(path: Path, now: dt.datetime) -> list[Source]:
    """What a file, or each `*.json` of a folder, says, in the order of their names.

    Raises ConfigurationError, which names the file, when one of them cannot be read or is not a
    namespace, when two are the same one, and when there is no file at all.
    """
    try:
        paths = sorted(path.glob("*.json")) if path.is_dir() else [path]
        texts = [(each, each.read_bytes()) for each in paths]
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror or error}.") from error
    if not texts:
        raise ConfigurationError(
            f"{path}: there is no file in it whose name ends in .json; name the folder that holds "
            "the definitions."
        )
    found: dict[str, Source] = {}
    for each, text in texts:
        source = _source(each, text, now)
        other = found.setdefault(source.namespace.namespace, source)
        if other is not source:
            raise ConfigurationError(
                f"{each}: namespace {source.namespace.namespace} stands in {other.path} as well; "
                "take one of the two away."
            )
    return list(found.values())


def _source(path: Path, text: bytes, now: dt.datetime) -> Source:
    try:
        told = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as broken:
        raise ConfigurationError(f"{path}: it is not valid JSON: {broken}.") from broken
    if not isinstance(told, dict):
        raise ConfigurationError(f"{path}: it must hold a JSON object: one namespace.")
    try:
        body = shaped(NamespaceBody, told)
    except TransomError as wrong:
        raise ConfigurationError(f"{path}: {wrong}") from wrong
    return Source(path, namespace_of(body, now), contents_of(body, now))


def write(folder: Path, found: Iterable[tuple[Namespace, Contents]]) -> list[Path]:
    """Write each namespace into a file of the folder, which is made if need be; gives the files.
    Files of these names are written anew, others stay. Raises ConfigurationError."""
    written: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for namespace, contents in found:
            path = folder / _file_name(namespace.namespace, {each.name for each in written})
            fresh = path.with_name(f".{path.name}.new")
            fresh.write_bytes(text_of(namespace, contents))
            # A reader, and an export that breaks off, find whole files only.
            fresh.replace(path)
            written.append(path)
    except OSError as error:
        raise ConfigurationError(
            f"{folder}: cannot be written: {error.strerror or error}."
        ) from error
    return written


def _file_name(namespace: str, taken: set[str]) -> str:
    stem = re.sub(r"[^\w.-]+", "-", namespace).strip("-.")[:80].lower() or "namespace"
    name, number = f"{stem}.json", 1
    while name in taken:
        number += 1
        name = f"{stem}-{number}.json"
    return name


def text_of(namespace: Namespace, contents: Contents) -> bytes:
    """A namespace and what it holds, as the text of a file."""
    told: dict[str, Any] = {
        "namespace": namespace.namespace,
        "display_name": namespace.display_name,
        "description": namespace.description,
        "visibility": namespace.visibility,
        "protected": namespace.protected,
        "owner": namespace.owner,
        "resource_type_associations": [
            _said(
                {
                    "name": one.name,
                    "prefix": one.prefix,
                    "properties_target": one.properties_target,
                }
            )
            for one in namespace.associations
        ],
        "properties": {one.name: one.definition for one in contents.properties},
        "objects": [
            _said(
                {
                    "name": one.name,
                    "description": one.description,
                    "required": one.required,
                    "properties": one.properties,
                }
            )
            for one in contents.objects
        ],
        "tags": [{"name": one.name} for one in contents.tags],
    }
    return msgspec.json.format(msgspec.json.encode(_said(told)), indent=4) + b"\n"


def _said(told: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in told.items()
        if value is not None and value not in ((), [], {})
    }
