"""OpenTelemetry traces: a span for each request, with its statements, store operations and calls.

Off unless `[tracing] endpoint` or OpenTelemetry's own variables name a receiver. Then nothing of
OpenTelemetry is loaded, and `span` costs a look at one variable. Decision 0132.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar

from transom.errors import ConfigurationError

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

T = TypeVar("T")
Value = str | int | float | bool

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_TRACES_PATH = "/v1/traces"

_tracer: Tracer | None = None
_close: Callable[[], None] | None = None
_NOTHING: AbstractContextManager[None] = contextlib.nullcontext()


def start(endpoint: str, sample_ratio: float, version: str) -> None:
    """Begin to trace in this process, if `endpoint` (the receiver's base URL) or else the environment
    name a receiver. `version` is Transom's. Raises ConfigurationError when OpenTelemetry is not
    installed."""
    global _tracer, _close
    if _tracer is not None or not is_wanted(endpoint, os.environ):
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
    except ModuleNotFoundError as missing:
        raise ConfigurationError(
            f"tracing.endpoint = {endpoint!r}: the Python package {missing.name} is not "
            "installed; install transom[tracing], or leave the setting empty."
        ) from missing
    url = endpoint.rstrip("/") + _TRACES_PATH if endpoint else None
    exporter = OTLPSpanExporter(endpoint=url)
    sampler = None if "OTEL_TRACES_SAMPLER" in os.environ else ParentBasedTraceIdRatio(sample_ratio)
    # What the variables OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say goes before this.
    own = {"service.version": version}
    if "OTEL_SERVICE_NAME" not in os.environ:
        own["service.name"] = "transom"
    provider = TracerProvider(sampler=sampler, resource=Resource.create(own))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    _tracer, _close = provider.get_tracer("transom", version), provider.shutdown


def is_wanted(endpoint: str, environment: Mapping[str, str]) -> bool:
    """True when there is somebody to send traces to."""
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if environment.get("OTEL_TRACES_EXPORTER", "otlp") == "none":
        return False
    return bool(endpoint) or any(environment.get(name) for name in _ENDPOINTS)


def is_on() -> bool:
    """True while this process traces."""
    return _tracer is not None


def stop() -> None:
    """Send what waits, and trace no more. Blocks for a few seconds at most."""
    global _tracer, _close
    if _close is not None:
        _close()
    _tracer = _close = None


def span(name: str, **attributes: Value) -> AbstractContextManager[Any]:
    """A span around what is done inside, below the one that is open in this task."""
    if _tracer is None:
        return _NOTHING
    return _tracer.start_as_current_span(name, attributes=attributes)


@contextlib.contextmanager
def request_span(
    name: str, headers: Mapping[str, str], **attributes: Value
) -> Iterator[Span | None]:
    """The span of a request that came in; below the one that its `traceparent` names (W3C Trace
    Context)."""
    if _tracer is None:
        yield None
        return
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    above = TraceContextTextMapPropagator().extract(headers)
    with _tracer.start_as_current_span(
        name, context=above, kind=SpanKind.SERVER, attributes=attributes
    ) as opened:
        yield opened


@contextlib.contextmanager
def call_span(
    name: str, headers: MutableMapping[str, str], **attributes: Value
) -> Iterator[Span | None]:
    """The span of a request that goes out; its `traceparent` is added to the headers."""
    if _tracer is None:
        yield None
        return
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    with _tracer.start_as_current_span(name, kind=SpanKind.CLIENT, attributes=attributes) as opened:
        TraceContextTextMapPropagator().inject(headers)
        yield opened


def pass_on(headers: MutableMapping[str, str]) -> None:
    """Add the `traceparent` of the span that is open here to the headers of a request."""
    if _tracer is not None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        TraceContextTextMapPropagator().inject(headers)


def fail(failed: Span) -> None:
    """Mark a span as failed."""
    from opentelemetry.trace import StatusCode

    failed.set_status(StatusCode.ERROR)


def carried(work: Callable[..., T], name: str, **attributes: Value) -> Callable[..., T]:
    """The work, to be done in another thread, in a span below the one that is open here."""
    if _tracer is None:
        return work
    from opentelemetry import context

    here = context.get_current()

    def traced(*arguments: Any) -> T:
        token = context.attach(here)
        try:
            with span(name, **attributes):
                return work(*arguments)
        finally:
            context.detach(token)

    return traced


def mark(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Add the trace and the span that are open to a line of the log."""
    if _tracer is not None:
        from opentelemetry.trace import format_span_id, format_trace_id, get_current_span

        here = get_current_span().get_span_context()
        if here.is_valid:
            event["trace_id"] = format_trace_id(here.trace_id)
            event["span_id"] = format_span_id(here.span_id)
    return event
