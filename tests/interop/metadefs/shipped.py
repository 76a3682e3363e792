"""Where Glance's own files of metadata definitions are."""

from __future__ import annotations

from pathlib import Path

from tests.interop.environments import environment


def shipped_files() -> Path:
    """The folder of JSON files that an installed Glance has; nothing else of it is needed."""
    requirements = Path(__file__).with_name("requirements.txt")
    return environment("glance-files", requirements, alone=True) / "venv/etc/glance/metadefs"
