"""A store in a bucket of an S3 server: Amazon's, Ceph's radosgw, MinIO and their like.

    <prefix><key>            complete objects
    <prefix>.tail/<key>      the end of an object that is being written, shorter than a part
    <prefix>.probe/<id>      for a moment, while the store is checked

A write is a multipart upload, or one PUT when it fits into a part. Nothing can be read before the
PUT, or the completion of the upload, is acknowledged; the server makes both visible in one step.

**The durable offset.** Parts are durable when they are acknowledged, but all except the last must have
5 MiB, and what is in a part cannot be read back before the end. So `flush` waits for the parts on
their way and puts the rest into the *tail*, an object of its own. `reopen` finds upload and tail by
the key, in any process: the offset is the length of the parts from the first to the first gap, plus
the tail's. Decision 0110.

**One writer at a time.** Within a process a second Writer of a key is refused. Between processes the
completion names the parts by number and ETag, so an object is made of what this Writer sent or
acknowledged, or it is not made.
"""

from transom.stores.drivers.s3.store import S3Store

__all__ = ["S3Store"]
