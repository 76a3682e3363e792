"""Properties of images that the service sets for itself (lifecycle §11). Clients can only read them."""

from __future__ import annotations

PREFIX = "os_glance"
"""Names that begin so are no client's to set."""

IMPORT_TASK = "os_glance_import_task"
"""Id of the task that has the image: the lock of a running import."""

IMPORTING_TO = "os_glance_importing_to_stores"
"""Stores still to fill, separated by commas."""

FAILED_IMPORT = "os_glance_failed_import"
"""Stores that the last import could not fill, separated by commas."""

LAST_ERROR = "os_glance_last_error"
"""Why the last import failed, in one sentence; shown as `last_error`."""

DELETED_FROM = "os_glance_deleted_from"
"""On tombstones whose data waits for the scrubber: the status before, unless it was `active`."""
