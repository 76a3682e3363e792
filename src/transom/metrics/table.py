"""Every metric that Transom has: one line each. Names, labels and texts are for operators, who build
alerts on them: a change here is a change of the interface.

Where a label says `kind` or `outcome`, the text lists its values.
"""

from __future__ import annotations

from transom.metrics.kinds import METRICS, Counter, Gauge, Histogram

__all__ = ["METRICS"]

_LONG = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
_SHORT = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
    30,
)  # fmt: skip

# --- requests
HTTP_REQUESTS = Counter(
    "transom_http_requests_total",
    "Requests that were answered. `route` is the path with its parameters' names, or `unmatched`; `status` is `broken` where the answer did not come to its end.",
    "route",
    "method",
    "status",
)
HTTP_DURATION = Histogram(
    "transom_http_request_duration_seconds",
    "Time from the head of a request to the last byte of its answer, bodies included.",
    "route",
    "method",
    bounds=_LONG,
)
HTTP_RUNNING = Gauge("transom_http_requests_running", "Requests that are being answered now.")
HTTP_RECEIVED = Counter(
    "transom_http_received_bytes_total", "Bytes of request bodies.", "route", "method"
)
HTTP_SENT = Counter(
    "transom_http_sent_bytes_total", "Bytes of the bodies of answers.", "route", "method"
)
HTTP_DRAINING = Gauge(
    "transom_http_draining",
    "1 while the process finishes what it has and takes nothing new, else 0.",
    merge="max",
)

# --- catalog
CATALOG_DURATION = Histogram(
    "transom_catalog_duration_seconds",
    "Time that the database took: `read` for the statements of one question, `write` for one transaction.",
    "work",
    bounds=_SHORT,
)
CATALOG_WAIT = Histogram(
    "transom_catalog_wait_duration_seconds",
    "Time that reads and writes waited for a connection.",
    "work",
    bounds=_SHORT,
)
CATALOG_WAITING = Gauge(
    "transom_catalog_waiting", "Reads and writes that wait for a connection now.", "work"
)
CATALOG_BUSY = Gauge("transom_catalog_connections_busy", "Connections at work now.", "work")
CATALOG_SIZE = Gauge("transom_catalog_connections_max", "Connections that may be open.", "work")
CATALOG_OPENED = Counter(
    "transom_catalog_connections_opened_total", "Connections that were opened."
)
CATALOG_REOPENED = Counter(
    "transom_catalog_reconnections_total",
    "Connections that were opened anew because they had broken.",
)
CATALOG_RETRIES = Counter(
    "transom_catalog_retries_total",
    "Transactions that were repeated because the database refused them for the sake of another one.",
)
CATALOG_ERRORS = Counter(
    "transom_catalog_errors_total",
    "Failures of the database: `connection`, `full` (its disk), `read_only`, `io`, `corrupt`, `busy` (locked), `conflict`, `timeout` (a statement), `waited` (no connection in time), `resources`.",
    "kind",
    known=(
        "connection",
        "full",
        "read_only",
        "io",
        "corrupt",
        "busy",
        "conflict",
        "timeout",
        "waited",
        "resources",
    ),
)

# --- stores
STORE_DURATION = Histogram(
    "transom_store_operation_duration_seconds",
    "Time of one operation on a store: `open` (the first byte of a read), `read` (a piece), `create` (an object to be written), `write` (a piece), `flush`, `commit`, `leave` (what was not committed), `cancel`, `reopen`, `stat`, `find`, `delete`, `check`.",
    "store",
    "operation",
    bounds=_SHORT,
)
STORE_RUNNING = Gauge(
    "transom_store_operations_running",
    "Operations on a store that have not come back yet.",
    "store",
)
STORE_ERRORS = Counter(
    "transom_store_errors_total",
    "Operations that a store failed: `full`, `unavailable`, `refused`, `failed`, `missing` (data that should be there), `in_use`, `other`.",
    "store",
    "operation",
    "kind",
)
STORE_RETRIES = Counter(
    "transom_store_retries_total",
    "Requests to a store's server that were repeated, because they failed or got no answer.",
    "store",
)
STORE_READ = Counter("transom_store_read_bytes_total", "Bytes that a store gave.", "store")
STORE_WRITTEN = Counter("transom_store_written_bytes_total", "Bytes that a store took.", "store")

# --- data that comes in
INTAKE_BYTES = Counter(
    "transom_intake_bytes_total", "Bytes of images that came in whole, by upload or import."
)
INTAKE_REJECTED = Counter(
    "transom_intake_rejections_total",
    "Images that were refused: `too_large`, `size` (other than announced), `digest`, `format`, `unsafe`, `quota`, `signature`, `incomplete` (the client left).",
    "reason",
    known=("too_large", "size", "digest", "format", "unsafe", "quota", "signature", "incomplete"),
)

# --- tasks
TASKS_ENDED = Counter(
    "transom_tasks_total", "Tasks that ended: `success`, `failure`, `cancelled`.", "type", "outcome"
)
TASKS_RUNNING = Gauge("transom_tasks_running", "Tasks that this process works on.")
TASKS_WAITING = Gauge(
    "transom_tasks_waiting", "Tasks of the deployment that nobody works on yet.", merge="max"
)
TASKS_OLDEST = Gauge(
    "transom_tasks_oldest_seconds",
    "Age of the oldest task of the deployment that has not ended.",
    merge="max",
)
TASKS_ADOPTED = Counter(
    "transom_tasks_adopted_total", "Tasks that were taken over from processes that died."
)
TASK_STEP_DURATION = Histogram(
    "transom_task_step_duration_seconds", "Time of one step of a task.", "step", bounds=_LONG
)

# --- what mends itself
SWEEP_MENDED = Counter(
    "transom_sweep_mended_total",
    "Things that were cleaned up: `intake` (data of a process that died), `data` (of deleted images), `image` (a stuck one), `task` (what tasks left).",
    "kind",
    known=("intake", "data", "image", "task"),
)
SWEEP_FAILURES = Counter("transom_sweep_failures_total", "Sweeps that broke off.")
SWEEP_SUCCEEDED = Gauge(
    "transom_sweep_last_success_timestamp_seconds",
    "When a sweep last came to its end, in seconds since the epoch.",
    merge="max",
)
LEASE_FAILURES = Counter(
    "transom_lease_failures_total",
    "Times that this process could not tell the others that it lives.",
)

# --- the cache of this node
CACHE_REQUESTS = Counter(
    "transom_cache_requests_total",
    "Downloads: `hit`, `joined` (read along with one that fills the cache), `miss`.",
    "result",
    known=("hit", "joined", "miss"),
)
CACHE_FILLED = Counter(
    "transom_cache_fillings_total",
    "Images that were brought into the cache: `success`, `failure`.",
    "outcome",
    known=("success", "failure"),
)
CACHE_BYTES = Gauge("transom_cache_bytes", "Size of all copies in the cache.", merge="max")
CACHE_BYTES_MAX = Gauge(
    "transom_cache_bytes_max", "What the copies may take up; 0 = unlimited.", merge="max"
)

# --- who is asking
IDENTITY_DURATION = Histogram(
    "transom_identity_validation_duration_seconds",
    "Time to find out who is behind a token that is not remembered: `accepted`, `refused`, `unavailable`.",
    "outcome",
    bounds=_SHORT,
)
IDENTITY_REMEMBERED = Counter(
    "transom_identity_remembered_total", "Requests whose token was remembered."
)
KEYSTONE_DURATION = Histogram(
    "transom_keystone_request_duration_seconds",
    "Time of one request to Keystone: `ok`, `failed` (no answer, or a 5xx).",
    "outcome",
    bounds=_SHORT,
)
KEYSTONE_UP = Gauge(
    "transom_keystone_up", "1 while Keystone answers, 0 while it is known to be away.", merge="min"
)
KEYSTONE_AHEAD = Gauge(
    "transom_keystone_clock_ahead_seconds",
    "How far Keystone's clock is ahead of this machine's.",
    merge="max",
)

# --- policy, events, clock
POLICY_RELOADS = Counter(
    "transom_policy_reloads_total",
    "Files that were read again because they changed: `policy` or `property_protections`; `success`, or `failure`, and then what was before holds.",
    "file",
    "outcome",
    known=(
        "policy success",
        "policy failure",
        "property_protections success",
        "property_protections failure",
    ),
)
EVENTS_WAITING = Gauge(
    "transom_events_waiting",
    "Events of the deployment that wait for their target.",
    "target",
    merge="max",
)
EVENTS_DEAD = Gauge(
    "transom_events_laid_aside",
    "Events of the deployment that were tried often enough.",
    "target",
    merge="max",
)
EVENTS_DELIVERED = Counter(
    "transom_events_delivered_total", "Events that their target took.", "target"
)
EVENTS_FAILED = Counter("transom_events_failed_total", "Tries that failed.", "target")
CLOCK_JUMPS = Counter(
    "transom_clock_jumps_total",
    "Times that the clock of the machine was set: `forward`, `backward`.",
    "direction",
    known=("forward", "backward"),
)

# --- the process
BUILD_INFO = Gauge(
    "transom_build_info", "1; the labels tell what runs.", "version", "python", merge="max"
)
PROCESSES = Gauge("transom_processes", "Processes that these numbers are of.")
PROCESS_CPU = Counter("process_cpu_seconds_total", "Processor time, in user and system mode.")
PROCESS_MEMORY = Gauge("process_resident_memory_bytes", "Memory that is in use.")
PROCESS_FILES = Gauge("process_open_fds", "Files and connections that are open.")
PROCESS_FILES_MAX = Gauge("process_max_fds", "Files and connections that may be open.")
PROCESS_THREADS = Gauge("process_threads", "Threads.")
PROCESS_STARTED = Gauge(
    "process_start_time_seconds",
    "When the process began, in seconds since the epoch; of several the last.",
    merge="max",
)
