"""Stores behind Glance's own driver library, for those who have Ceph RBD, Swift or Cinder.

The library (`glance_store`) does the writing and deleting, configured by the options that it has in
Glance, so that clouds find in Transom's objects what they find in Glance's. What it cannot say (ranges,
lists, what is complete) is asked of the storage itself, one module a kind: `rbd`, `swift`, `cinder`.

It blocks, so all of it runs in threads. It pulls data where a Writer is pushed, so between the two is a
`Pipe`. An `add` that fails or is cancelled leaves nothing; one whose process dies leaves an object that
was never complete, and `delete` removes that by its key. Decision 0120.
"""

from transom.stores.drivers.glance.store import GlanceStore

__all__ = ["GlanceStore"]
