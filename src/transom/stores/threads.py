"""Blocking work in threads, without leaving any behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import ParamSpec, TypeVar

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


async def run_to_end(
    threads: Executor,
    work: Callable[_Arguments, _Result],
    *arguments: _Arguments.args,
    **more: _Arguments.kwargs,
) -> _Result:
    """The result of `work` in one of `threads`. When the caller is cancelled, this waits for the
    work before it raises CancelledError: a thread cannot be stopped, and what it uses (a file, a
    buffer) has to stay until it is done."""
    loop = asyncio.get_running_loop()
    future = loop.run_in_executor(threads, lambda: work(*arguments, **more))
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await settled(future)
        raise


async def settled(future: asyncio.Future[_Result]) -> None:
    """Wait until the future is done, however often the caller is cancelled meanwhile; a result or
    an error stays in it. Raises nothing."""
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            continue
    if not future.cancelled():
        future.exception()
