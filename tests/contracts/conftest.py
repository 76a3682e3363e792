"""What the contracts of the catalog are tried on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.catalogs import DIALECTS, fresh_url
from transom.catalog import Catalog
from transom.catalog.engine import Engine


@pytest.fixture(params=DIALECTS)
def catalog(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Catalog]:
    """A catalog with nothing in it, on each of the databases."""
    opened = Catalog(Engine(fresh_url(request.param, tmp_path)))
    yield opened
    opened.close()
