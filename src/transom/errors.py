"""Everything that can go wrong, as types.

Each class is one condition, carries the facts that explain it as attributes, and says in its
message what the reader can do next. HTTP statuses are not known here: `api/problems.py` holds one
row for each class, and a test compares the two.

    TransomError
    ├── Invalid                     the request itself is wrong
    │   ├── InvalidBody             … its body
    │   ├── InvalidQuery            … a query parameter
    │   ├── InvalidHeader           … a header
    │   ├── InvalidValue            … a value in the body
    │   ├── InvalidMarker           … the marker of a page
    │   ├── InvalidTaskMarker       … the marker of a page of tasks
    │   ├── BodyNotAllowed          a body where none belongs
    │   ├── FormatsMissing          data for an image without disk_format or container_format
    │   ├── SizeMismatch            more or fewer bytes than announced
    │   ├── NotActive               … an image that cannot be cached
    │   ├── SignatureInvalid        … the data is not what was signed
    │   ├── UnknownStore            a store that is not configured
    │   ├── StoreReadOnly           a store that nothing can be put into
    │   ├── LocationRefused         a location that cannot be one of the image
    │   ├── PartsRefused            a part of data whose source gives the whole alone
    │   ├── StoresDisagree          stores that keep images in different formats
    │   ├── UrlRefused              a URL that this deployment does not read from
    │   ├── FetchFailed             a URL that gave no data
    │   │   └── SourceChanged       … or other data in its middle; begin anew
    │   ├── ChecksumsUnreadable     a file that is no list of digests
    │   ├── ProjectMismatch         the path names another project than the token
    │   └── IncompleteUpload        the client left before the end
    ├── Unauthenticated             no token, or a bad one
    │   └── UnknownKey              … signed with a key that is not ours (any more)
    │   └── TooManyGuesses          wait after too many wrong passwords
    ├── Forbidden                   known, and not allowed
    │   ├── PolicyRefused
    │   ├── MarkerNotVisible
    │   ├── AnonymousRefused
    │   ├── ReadOnlyAttribute
    │   ├── ReservedAttribute
    │   ├── AttributeNotRemovable
    │   ├── FormatsFrozen
    │   ├── OwnerRefused
    │   ├── LocationsRefused
    │   ├── LocationsClosed         no store that users can add a location of
    │   ├── LastLocation            an image keeps its last location
    │   ├── ImageProtected
    │   ├── NamespaceProtected
    │   ├── ImageDeactivated
    │   ├── StatusForbids
    │   ├── NotShared
    │   └── IdentityRefused
    ├── NotFound
    │   ├── PathNotFound
    │   ├── ImageNotFound
    │   ├── DataNotFound
    │   ├── LocationNotFound        no data in that store
    │   ├── MemberNotFound
    │   ├── TagNotFound
    │   ├── TaskNotFound
    │   ├── CacheOff
    │   ├── MetadataNotFound
    │   ├── SchemaNotFound
    │   ├── NamespaceNotFound
    │   ├── MetadefNotFound         an object, property, tag … of a namespace
    │   └── IdentityNotFound        a user, project, role … of the local identity
    ├── MethodNotAllowed
    ├── VersionNotAcceptable        a microversion that does not exist
    ├── Conflict
    │   ├── DuplicateImage
    │   ├── DuplicateMember
    │   ├── DuplicateMetadef        a namespace, object, property, tag … of this name
    │   ├── PropertyConflict
    │   ├── StatusConflict
    │   ├── ImageLocked             a task has the image
    │   ├── FormatsUnset
    │   ├── NothingStaged
    │   ├── UnknownImportStore
    │   ├── CopyDiffers
    │   ├── TablesDiffer            a copied catalog is not what it was copied from
    │   ├── DigestMismatch
    │   ├── ValidationMismatch      digests of a location that are not the image's
    │   ├── TaskCancelled
    │   ├── TaskLost                another process has it now
    │   ├── ImageInUse
    │   ├── StoreNotEnabled         nothing can be removed from a store that is not configured
    │   ├── ScrubbingBegan          too late to restore a deleted image
    │   ├── ImageChanged            somebody else was faster; read again and repeat
    │   └── NameTaken               … of the local identity
    ├── ImageDeletedMeanwhile
    ├── PreconditionFailed          If-Match names other data
    ├── OverLimit
    │   ├── ImageTooLarge
    │   ├── QuotaExceeded
    │   ├── BodyTooLarge
    │   ├── ArchiveTooLarge         far more comes out of it than is in it
    │   ├── ScratchFull             no room on the local disk to work on an image
    │   └── StoreFull
    ├── UnsupportedMedia
    │   ├── WrongContentType
    │   ├── WrongPatchType
    │   ├── FormatMismatch
    │   ├── BadArchive              damaged, or not of a kind that can be unpacked
    │   ├── ConversionFailed
    │   └── UnsafeImage
    ├── RangeNotSatisfiable
    ├── RequestIdTooLong
    ├── Unavailable                 try again later
    │   ├── StoreUnavailable
    │   ├── CatalogUnavailable
    │   │   └── CatalogBusy         … it took too long
    │   ├── IdentityUnavailable
    │   └── BackupFailed
    ├── StoreRefused                the store lacks the permission
    ├── StoreFailed                 the store broke
    └── ConfigurationError          the operator must change something; never reaches HTTP
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping


class TransomError(Exception):
    """Base of every error of the domain. `str(error)` is meant for the user."""

    retryable = False


# --- the request is wrong ------------------------------------------------------------------------


class Invalid(TransomError):
    """The request cannot be understood or breaks a rule of the API."""


class InvalidBody(Invalid):
    """The body is missing, is not JSON, or has the wrong shape."""


class InvalidQuery(Invalid):
    """A query parameter has a value that it cannot have."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"Invalid value of query parameter '{name}': {reason}")
        self.name = name


class InvalidHeader(Invalid):
    """A header has a value that it cannot have."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"Invalid value of header {name}: {reason}")
        self.name = name


class InvalidValue(Invalid):
    """An attribute was given a value that the image schema refuses."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"Invalid value of '{name}': {reason}")
        self.name = name


class InvalidMarker(Invalid):
    """The marker names no image."""

    def __init__(self, marker: str) -> None:
        super().__init__(
            f"Marker {marker} names no image; take the id of the last image of the previous page."
        )
        self.marker = marker


class InvalidTaskMarker(Invalid):
    """The marker names no task."""

    def __init__(self, marker: str) -> None:
        super().__init__(
            f"Marker {marker} names no task; take the id of the last task of the previous page."
        )
        self.marker = marker


class BodyNotAllowed(Invalid):
    """The request carries a body where none belongs."""

    def __init__(self) -> None:
        super().__init__("This request must not have a body; send it without one.")


class FormatsMissing(Invalid):
    """Data for an image whose disk_format or container_format is not set."""

    def __init__(self) -> None:
        super().__init__(
            "Properties disk_format and container_format must be set before data can be stored; "
            "set both with an update of the image and try again."
        )


class SizeMismatch(Invalid):
    """The data is longer or shorter than the client announced (bytes)."""

    def __init__(self, announced: int, received: int) -> None:
        super().__init__(
            f"The announced size is {announced} bytes, the data received {received} bytes; "
            "the image is queued again, repeat the upload with the right size."
        )
        self.announced = announced
        self.received = received


class UnknownStore(Invalid):
    """A store that is not configured."""

    def __init__(self, store: str, known: Iterable[str] = ()) -> None:
        names = ", ".join(known)
        super().__init__(
            f"Store '{store}' is not configured here"
            + (f"; use one of: {names}." if names else ".")
        )
        self.store = store


class StoreReadOnly(Invalid):
    """Data for a store that nothing can be put into."""

    def __init__(self, store: str) -> None:
        super().__init__(f"Store '{store}' is read-only; name another one, or none.")
        self.store = store


class LocationRefused(Invalid):
    """A location that the image cannot have."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The location is not possible: {reason}.")


class PartsRefused(Invalid):
    """A part of data that its store can only give, or only prove, as a whole."""

    def __init__(self, store: str) -> None:
        super().__init__(
            f"Store '{store}' gives this data as a whole only; repeat the request without a range."
        )
        self.store = store


class NotActive(Invalid):
    """Only images that are active can be cached."""

    def __init__(self, image_id: str, status: str) -> None:
        super().__init__(f"Image {image_id} is {status}; only active images can be cached.")
        self.image_id = image_id
        self.status = status


class SignatureInvalid(Invalid):
    """The data is not what the image's signature says that it is, or nobody can tell."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"Signature verification for the image failed: {reason}.")
        self.reason = reason


class UrlRefused(Invalid):
    """The URL is not one that this deployment reads from.

    The sentence is the same for every reason, so that nobody learns from it what there is behind
    the service; the log has the reason. It has no facts beside the sentence, for these are shown.
    """

    def __init__(
        self,
        message: str = (
            "The URL is not allowed here. Use a plain http or https URL of a public host, without "
            "user name and password, or ask the administrator to allow its host."
        ),
    ) -> None:
        super().__init__(message)


class FetchFailed(Invalid):
    """The data of a URL could not be fetched.

    `status` is the HTTP status of the source where it gave one; `retryable` says whether the same
    request may succeed later.
    """

    def __init__(
        self,
        message: str = "The URL could not be fetched; check it and try again.",
        *,
        status: int | None = None,
        retryable: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retryable = retryable


class SourceChanged(FetchFailed):
    """The data behind a URL changed while it was read; what was read so far is of no use."""

    def __init__(
        self,
        message: str = (
            "The data of the URL is not what it was when reading began; start from its beginning."
        ),
    ) -> None:
        super().__init__(message, retryable=True)


class ChecksumsUnreadable(Invalid):
    """What lies behind the URL of the checksums is no list of digests."""

    def __init__(
        self,
        message: str = (
            "The checksum file cannot be read: give the URL of a list of digests and file names, as "
            "sha256sum writes it."
        ),
    ) -> None:
        super().__init__(message)


class StoresDisagree(Invalid):
    """Stores that keep images in different formats: an image has one format and one hash."""

    def __init__(self, formats: Mapping[str, str]) -> None:
        kept = ", ".join(f"{store} {each or 'as imported'}" for store, each in formats.items())
        super().__init__(
            f"These stores keep images in different formats ({kept}); import to stores that agree, "
            "and make a second image for the others."
        )
        self.stores = tuple(formats)


class ProjectMismatch(Invalid):
    """The project of the path is not the token's (compute view §3)."""

    def __init__(self, in_path: str, in_token: str | None) -> None:
        super().__init__(
            f"Malformed request URL: URL's project_id '{in_path}' doesn't match Context's "
            f"project_id '{in_token}'"
        )


class IncompleteUpload(Invalid):
    """The client went away before the data was complete."""

    def __init__(self, received: int) -> None:
        super().__init__(
            f"The connection ended after {received} bytes, before the data was complete; "
            "the image is queued again, repeat the upload."
        )
        self.received = received


# --- who is asking ------------------------------------------------------------------------------


class Unauthenticated(TransomError):
    """There is no token, or it is unknown, expired, revoked or forged."""

    def __init__(
        self, reason: str = "The request needs a valid token in X-Auth-Token; log in again."
    ) -> None:
        super().__init__(reason)


class TooManyGuesses(Unauthenticated):
    """Too many wrong passwords in a row; the next attempt has to wait (seconds)."""

    def __init__(self, wait_seconds: float) -> None:
        self.wait_seconds = max(1, round(wait_seconds))
        super().__init__(
            f"Too many failed logins; wait {self.wait_seconds} seconds and try again with the "
            "right password."
        )


class UnknownKey(Unauthenticated):
    """The token was signed with a key that is not on the ring: alien, too old, or too new."""


class Forbidden(TransomError):
    """The caller is known and may not do this."""


class PolicyRefused(Forbidden):
    """A policy rule refuses the operation."""

    def __init__(self, action: str) -> None:
        super().__init__(f"You are not authorized to complete {action} action.")
        self.action = action


class MarkerNotVisible(Forbidden):
    """The marker names an image that the caller may not see."""

    def __init__(self, marker: str) -> None:
        super().__init__(f"Marker {marker} names an image that you may not see.")
        self.marker = marker


class AnonymousRefused(Forbidden):
    """An anonymous caller tried to change something."""

    def __init__(self) -> None:
        super().__init__("You have read-only access without a token; log in to make changes.")


class ReadOnlyAttribute(Forbidden):
    """The attribute is set by the service alone."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Attribute '{name}' is read-only.")
        self.name = name


class ReservedAttribute(Forbidden):
    """The attribute name is reserved for the service."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Attribute '{name}' is reserved.")
        self.name = name


class AttributeNotRemovable(Forbidden):
    """A base attribute can be replaced, never removed."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Property {name} may not be removed.")
        self.name = name


class FormatsFrozen(Forbidden):
    """disk_format and container_format change only before there is data."""

    def __init__(self, name: str, status: str) -> None:
        super().__init__(
            f"Attribute '{name}' can be replaced only while the image is queued; "
            f"its status is {status}."
        )
        self.name = name


class OwnerRefused(Forbidden):
    """Only an administrator chooses the owner."""

    def __init__(self) -> None:
        super().__init__("Only an administrator may set or change the owner of an image.")


class LocationsRefused(Forbidden):
    """Locations are not open to clients here."""

    def __init__(self) -> None:
        super().__init__(
            "It's not allowed to add, replace or remove locations here: "
            "show_multiple_locations is off."
        )


class LocationsClosed(Forbidden):
    """There is no store that users can add locations of."""

    def __init__(self) -> None:
        super().__init__(
            "Locations can be added by services only here: no store with driver http is configured."
        )


class LastLocation(Forbidden):
    """The only location of an image goes with the image alone."""

    def __init__(self, image_id: str) -> None:
        super().__init__(
            f"Image {image_id} has its data in no other store; delete the image instead."
        )
        self.image_id = image_id


class ImageProtected(Forbidden):
    """The image is protected from deletion."""

    def __init__(self, image_id: str) -> None:
        super().__init__(
            f"Image {image_id} is protected and cannot be deleted; set protected to false first."
        )
        self.image_id = image_id


class NamespaceProtected(Forbidden):
    """The namespace is protected: neither it nor what it holds is deleted."""

    def __init__(self, namespace: str) -> None:
        super().__init__(
            f"Metadata definition namespace {namespace} is protected; set protected to false first."
        )
        self.namespace = namespace


class ImageDeactivated(Forbidden):
    """The data of a deactivated image is for administrators only."""

    def __init__(self, image_id: str) -> None:
        super().__init__(
            f"The requested image {image_id} has been deactivated. Image data download is forbidden."
        )
        self.image_id = image_id


class StatusForbids(Forbidden):
    """The action is not possible in the image's status."""

    def __init__(self, action: str, status: str) -> None:
        super().__init__(f"Not allowed to {action} image in status '{status}'")
        self.status = status


class NotShared(Forbidden):
    """Only images with visibility `shared` have members."""

    def __init__(self, image_id: str) -> None:
        super().__init__(
            f"Only shared images have members; set the visibility of image {image_id} "
            "to 'shared' first."
        )
        self.image_id = image_id


class IdentityRefused(Forbidden):
    """The local identity's own rules refuse an operation."""

    def __init__(self, action: str) -> None:
        super().__init__(f"You are not authorized to perform the requested action: {action}.")
        self.action = action


# --- it does not exist --------------------------------------------------------------------------


class NotFound(TransomError):
    """It does not exist, or not for this caller."""


class PathNotFound(NotFound):
    """No resource has this path."""

    def __init__(self) -> None:
        super().__init__("The resource could not be found.")


class ImageNotFound(NotFound):
    """No such image, or none that this caller may see: the two are told apart nowhere."""

    def __init__(self, image_id: str) -> None:
        super().__init__(f"No image found with ID {image_id}")
        self.image_id = image_id


class DataNotFound(NotFound):
    """The image's data is in none of its locations."""

    def __init__(self, image_id: str) -> None:
        super().__init__(f"The data of image {image_id} is missing from its stores.")
        self.image_id = image_id


class LocationNotFound(NotFound):
    """The image has no data in the store."""

    def __init__(self, image_id: str, store: str) -> None:
        super().__init__(f"Image {image_id} has no data in store '{store}'.")
        self.image_id = image_id
        self.store = store


class MemberNotFound(NotFound):
    """The project is not a member of the image."""

    def __init__(self, image_id: str, member_id: str) -> None:
        super().__init__(f"{member_id} not found in the member list of the image {image_id}.")
        self.image_id = image_id
        self.member_id = member_id


class TagNotFound(NotFound):
    """The image does not carry the tag."""

    def __init__(self, image_id: str, tag: str) -> None:
        super().__init__(f"Image {image_id} does not carry the tag '{tag}'.")
        self.image_id = image_id
        self.tag = tag


class TaskNotFound(NotFound):
    """There is no such task, or it has expired."""

    def __init__(self, task_id: str) -> None:
        super().__init__(f"No task found with ID {task_id}")
        self.task_id = task_id


class CacheOff(NotFound):
    """There is no cache here, or an image is not in it."""

    def __init__(
        self, reason: str = "caching is switched off here; the operator sets cache.enabled"
    ) -> None:
        super().__init__(f"Image cache: {reason}.")


class MetadataNotFound(NotFound):
    """The image has no such metadata item."""

    def __init__(self, image_id: str, key: str) -> None:
        super().__init__(f"Image {image_id} has no metadata item '{key}'.")
        self.image_id = image_id
        self.key = key


class SchemaNotFound(NotFound):
    """No schema has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no schema '{name}'.")
        self.name = name


class NamespaceNotFound(NotFound):
    """No such metadata definition namespace, or the caller may not know that there is one."""

    def __init__(self, namespace: str) -> None:
        super().__init__(f"No metadata definition namespace {namespace} found.")
        self.namespace = namespace


class MetadefNotFound(NotFound):
    """The namespace does not hold a definition of this kind and name."""

    def __init__(self, kind: str, name: str, namespace: str) -> None:
        super().__init__(f"Namespace {namespace} has no {kind} {name}.")
        self.kind = kind
        self.name = name
        self.namespace = namespace


class IdentityNotFound(NotFound):
    """The local identity knows no such user, project, role, domain, or credential."""

    def __init__(self, kind: str, reference: str) -> None:
        super().__init__(f"Could not find {kind}: {reference}.")
        self.kind = kind
        self.reference = reference


class MethodNotAllowed(TransomError):
    """The path exists, the method does not."""

    def __init__(self, method: str, allowed: tuple[str, ...]) -> None:
        super().__init__(f"The method {method} is not allowed for this resource. ")
        self.method = method
        self.allowed = allowed


class VersionNotAcceptable(TransomError):
    """The microversion asked for lies outside of those that exist."""

    def __init__(self, asked: str, oldest: str, newest: str) -> None:
        super().__init__(
            f"Version {asked} is not supported by the API. Minimum is {oldest} and maximum is "
            f"{newest}."
        )
        self.asked = asked


# --- somebody or something is in the way ----------------------------------------------------------


class Conflict(TransomError):
    """The request does not fit the present state."""


class DuplicateImage(Conflict):
    """The id is in use, or was used by an image that is gone: ids are never used twice."""

    def __init__(self, image_id: str) -> None:
        super().__init__(f"Image ID {image_id} already exists!")
        self.image_id = image_id


class DuplicateMember(Conflict):
    """The project is a member already."""

    def __init__(self, image_id: str, member_id: str) -> None:
        super().__init__(f"Project {member_id} is already a member of image {image_id}.")
        self.image_id = image_id
        self.member_id = member_id


class DuplicateMetadef(Conflict):
    """A metadata definition of this kind has the name already."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"There is a {kind} {name} already; choose another name.")
        self.kind = kind
        self.name = name


class PropertyConflict(Conflict):
    """A patch operation does not fit the image's attributes."""


class StatusConflict(Conflict):
    """The image's status does not allow the data operation."""

    def __init__(self, image_id: str, action: str, status: str) -> None:
        super().__init__(f"Cannot {action} image {image_id}: its status is {status}.")
        self.image_id = image_id
        self.status = status


class ImageLocked(Conflict):
    """A task that has not ended has the image."""

    def __init__(self, image_id: str, task_id: str) -> None:
        super().__init__(
            f"Image {image_id} has a pending task associated with it: {task_id}; wait until it has "
            "ended, or cancel it."
        )
        self.image_id = image_id
        self.task_id = task_id


class FormatsUnset(Conflict):
    """An import into an image whose disk_format or container_format is not set."""

    def __init__(self, image_id: str) -> None:
        super().__init__(
            f"Properties disk_format and container_format of image {image_id} must be set before "
            "data can be imported; set both with an update of the image and try again."
        )
        self.image_id = image_id


class NothingStaged(Conflict):
    """An import of staged data where there is none."""

    def __init__(self, image_id: str) -> None:
        super().__init__(f"No data is staged for image {image_id}; stage it and try again.")
        self.image_id = image_id


class UnknownImportStore(Conflict):
    """An import names a store that is not configured."""

    def __init__(self, store: str, known: Iterable[str] = ()) -> None:
        super().__init__(
            f"Store '{store}' is not configured here; use one of: {', '.join(known) or 'none'}."
        )
        self.store = store


class TablesDiffer(Conflict):
    """Tables of a copied catalog are not what they were copied from; nothing was kept."""

    def __init__(self, tables: Iterable[str]) -> None:
        self.tables = tuple(tables)
        super().__init__(
            f"These tables differ from their originals after copying: {', '.join(self.tables)}. "
            "Nothing was kept. Run `transom db check` on the original, then copy again."
        )


class CopyDiffers(Conflict):
    """A further copy of an image is not the same as the image."""

    def __init__(self, store: str, what: str, expected: object, found: object) -> None:
        super().__init__(
            f"The data for store '{store}' differs from the image: its {what} is {found}, not "
            f"{expected}."
        )
        self.store = store
        self.expected = expected
        self.found = found


class DigestMismatch(Conflict):
    """Data does not have the digest that was expected of it (hex)."""

    def __init__(self, algorithm: str, expected: str, found: str) -> None:
        super().__init__(
            f"The {algorithm} of the data is {found}, not {expected} as expected: the source is "
            "damaged or another than you think; check both and import again."
        )
        self.algorithm = algorithm
        self.expected = expected
        self.found = found


class ValidationMismatch(Conflict):
    """The validation_data of a location do not fit the image."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"validation_data does not fit: {name} {reason}.")
        self.name = name


class TaskCancelled(Conflict):
    """Somebody asked for the end of the task."""

    def __init__(self, task_id: str) -> None:
        super().__init__("The task was cancelled.")
        self.task_id = task_id


class TaskLost(Conflict):
    """Another process has taken the task over, or it has ended."""

    def __init__(self, task_id: str) -> None:
        super().__init__(f"Task {task_id} is not worked on here any more.")
        self.task_id = task_id


class ImageInUse(Conflict):
    """A store says that the data is in use."""

    def __init__(self, image_id: str) -> None:
        super().__init__(
            f"The data of image {image_id} is in use in its store; release it and try again."
        )
        self.image_id = image_id


class StoreNotEnabled(Conflict):
    """Data is to go from a store that is not configured."""

    def __init__(self, store: str, configured: Iterable[str]) -> None:
        super().__init__(f"There is no store '{store}' here; name one of: {', '.join(configured)}.")
        self.store = store


class ScrubbingBegan(Conflict):
    """A deleted image cannot be restored any more."""

    def __init__(self, image_id: str) -> None:
        super().__init__(f"Image {image_id} cannot be restored: the removal of its data has begun.")
        self.image_id = image_id


class ImageChanged(Conflict):
    """The image changed between reading and writing; the caller reads again and repeats."""

    retryable = True

    def __init__(self, image_id: str) -> None:
        super().__init__(f"Image {image_id} was changed by another request; try again.")
        self.image_id = image_id


class NameTaken(Conflict):
    """The local identity has another user, project, role, or credential of this name."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"There is a {kind} named '{name}' already; choose another name.")
        self.kind = kind
        self.name = name


class ImageDeletedMeanwhile(TransomError):
    """The image was deleted while its data came in."""

    def __init__(self, image_id: str) -> None:
        super().__init__(f"Image {image_id} was deleted during the upload; its data is removed.")
        self.image_id = image_id


class PreconditionFailed(TransomError):
    """The request holds for other data than the image's (RFC 9110 §13)."""

    def __init__(self) -> None:
        super().__init__("The data is not the one that If-Match names; read the image again.")


class OverLimit(TransomError):
    """A limit of the deployment or the project is reached."""


class ImageTooLarge(OverLimit):
    """The data passes the largest image size (bytes)."""

    def __init__(self, size_bytes_max: int) -> None:
        super().__init__(f"Image data exceeds the largest allowed size of {size_bytes_max} bytes.")
        self.size_bytes_max = size_bytes_max


class QuotaExceeded(OverLimit):
    """A count or a sum passes its limit."""

    def __init__(self, what: str, limit: int, attempted: int) -> None:
        super().__init__(
            f"The limit of {what} has been exceeded: attempted {attempted}, maximum {limit}."
        )
        self.what = what
        self.limit = limit
        self.attempted = attempted


class BodyTooLarge(OverLimit):
    """A JSON body is larger than any valid request needs (bytes)."""

    def __init__(self, size_bytes_max: int) -> None:
        super().__init__(f"The body is larger than {size_bytes_max} bytes.")
        self.size_bytes_max = size_bytes_max


class StoreFull(OverLimit):
    """The store has no room left."""

    def __init__(self, store: str) -> None:
        super().__init__(f"Store '{store}' is full; free space in it or choose another store.")
        self.store = store


class ArchiveTooLarge(OverLimit):
    """What comes out of an archive is more than so many times what is in it."""

    def __init__(self, kind: str, ratio_max: int) -> None:
        super().__init__(
            f"The {kind} archive unpacks to more than {ratio_max} times its size; import the data "
            "unpacked, or ask an operator to raise the ratio."
        )
        self.kind = kind
        self.ratio_max = ratio_max


class ScratchFull(OverLimit):
    """The local disk has no room to work on the image (bytes)."""

    retryable = True

    def __init__(self, needed_bytes: int, free_bytes: int) -> None:
        super().__init__(
            f"Converting the image needs {needed_bytes} bytes on the local disk, {free_bytes} are "
            "free; try again later, or ask an operator to make room."
        )
        self.needed_bytes = needed_bytes
        self.free_bytes = free_bytes


class UnsupportedMedia(TransomError):
    """The content is not of the kind it has to be."""


class WrongContentType(UnsupportedMedia):
    """The data call needs application/octet-stream."""

    def __init__(self, content_type: str) -> None:
        super().__init__(f"The request media type {content_type} is not supported by this server.")
        self.content_type = content_type


class WrongPatchType(WrongContentType):
    """PATCH needs one of the image patch media types."""


class FormatMismatch(UnsupportedMedia):
    """The data is not in the format that the image declares."""

    def __init__(self, declared: str, detected: str) -> None:
        super().__init__(
            f"Image content does not match disk_format: declared {declared}, detected {detected}; "
            "correct disk_format or upload the right data."
        )
        self.declared = declared
        self.detected = detected


class BadArchive(UnsupportedMedia):
    """An archive that is damaged, or not of a kind that can be unpacked."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(f"The {kind} archive cannot be unpacked: {reason}.")
        self.kind = kind
        self.reason = reason


class ConversionFailed(UnsupportedMedia):
    """The image cannot be brought into the format that the store or the service keeps."""

    def __init__(self, source: str, target: str, reason: str) -> None:
        super().__init__(f"The image cannot be converted from {source} to {target}: {reason}.")
        self.source = source
        self.target = target
        self.reason = reason


class UnsafeImage(UnsupportedMedia):
    """The data has features that could reach into the host that uses it."""

    def __init__(self, detected: str, checks: str) -> None:
        super().__init__(f"The {detected} image failed these safety checks: {checks}.")
        self.detected = detected
        self.checks = checks


class RangeNotSatisfiable(TransomError):
    """No byte of the data lies in the requested range."""

    def __init__(self, reason: str, size_bytes: int) -> None:
        super().__init__(reason)
        self.size_bytes = size_bytes


class RequestIdTooLong(TransomError):
    """The caller's request id is longer than allowed (characters)."""

    def __init__(self, length_max: int) -> None:
        super().__init__(f"X-Openstack-Request-Id must have at most {length_max} characters.")


# --- something of ours or around us broke ------------------------------------------------------------


class Unavailable(TransomError):
    """Not now; the same request may succeed later."""

    retryable = True


class StoreUnavailable(Unavailable):
    """The store cannot be read or written now."""

    def __init__(self, store: str, reason: str) -> None:
        super().__init__(f"Store '{store}' is not available now: {reason}; try again later.")
        self.store = store


class CatalogUnavailable(Unavailable):
    """The database does not answer."""

    def __init__(self) -> None:
        super().__init__(self.message)

    message = "The image catalog is not available now; try again later."


class CatalogBusy(CatalogUnavailable):
    """The database answers, but not in time: it has too much to do, or another request holds what
    this one needs."""

    message = "The image catalog is too busy to answer in time; try again later."


class BackupFailed(Unavailable):
    """No backup was made; what is there already was left alone."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"No backup was made: {reason}")


class IdentityUnavailable(Unavailable):
    """The identity service does not answer."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(
            "The identity service is not available now; try again later."
            + (f" ({reason})" if reason else "")
        )


class StoreRefused(TransomError):
    """The store does not permit the operation."""

    def __init__(self, store: str, reason: str) -> None:
        super().__init__(f"Store '{store}' does not permit this: {reason}.")
        self.store = store


class StoreFailed(TransomError):
    """The store broke in a way that it does not explain further."""

    def __init__(self, store: str, reason: str) -> None:
        super().__init__(f"Store '{store}' failed: {reason}.")
        self.store = store


class ConfigurationError(TransomError):
    """The configuration is wrong: names the key, the value, and what would be right."""
