"""Images whose rows were read before: the same row is the same image (decision 0046). No SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transom.catalog.rows import Moments, image_of
from transom.model.image import Image


class Known:
    """Makes images of rows, and gives the one it made before for a row without a difference.

    The rows come from the database each time, so nothing here can be old: what is saved is taking
    them apart, and whoever works on images can tell by `is` that one has not changed. Images are
    never changed in place, nor are their properties.
    """

    def __init__(self, moment: Moments, images_max: int = 8192) -> None:
        self._moment = moment
        self._images_max = images_max
        self._known: dict[str, tuple[Sequence[Any], Image]] = {}

    def image(self, row: Sequence[Any]) -> Image:
        """The image of a row of COLUMNS and the member. For one thread."""
        known = self._known.pop(row[0], None)
        if known is None or known[0] != row:
            if len(self._known) >= self._images_max:
                del self._known[next(iter(self._known))]
            known = row, image_of(row, self._moment)
        # Last again: the one at the front was not asked for the longest.
        self._known[row[0]] = known
        return known[1]
