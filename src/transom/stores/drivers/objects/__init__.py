"""Stores in Google Cloud Storage and in Azure Blob Storage, through the library obstore.

    <prefix><key>            complete objects
    <prefix>.probe/<id>      for a moment, while the store is checked

A write that fits into a part is one request, which the server refuses if the key is in use; a longer one
is an upload in parts, which the server makes visible in one step. The library cannot open an upload
again, so writers are not resumable: one that fails or is cancelled is aborted, and what a dead process
has sent waits, invisible, for the server's own cleaning. Decision 0121.
"""

from transom.stores.drivers.objects.azure import AzureStore
from transom.stores.drivers.objects.gcs import GcsStore

__all__ = ["AzureStore", "GcsStore"]
