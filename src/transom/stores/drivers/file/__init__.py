"""A store in a folder of a local or shared file system.

    <path>/ab/abcdef…         complete objects, in folders of the first two characters of their keys
    <path>/.partial/abcdef…   objects that are being written
    <path>/.partial/abcdef…~  the mark beside each: how much of it is known to be on disk

A write goes into a partial file; `commit` forces it to disk, links it under its final name (which
fails rather than replaces) and forces the folder to disk. So under a final name there is a complete
object or nothing, after a power failure too. With `fsync = false` nothing is forced to disk.

**The durable offset.** `flush`, and every 32 MiB a sync in the background, force the partial file to
disk and then write the length into its mark. `reopen` takes that length when the machine was
restarted since (the mark names the boot), because the file may have come back with holes. While the
machine has not restarted, a killed process loses nothing that it wrote, and `reopen` takes the whole
file. Whatever lies beyond the durable offset is cut off. Decision 0010.

**One writer at a time.** A Writer holds a lock (flock) on its partial file, which ends with its
process; `reopen` refuses while it is held, so that two processes never write into one file.
"""

from transom.stores.drivers.file.store import FileStore

__all__ = ["FileStore"]
