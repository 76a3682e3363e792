"""The one command: start all sides, measure them beside each other, print the table.

python -m bench [--quick] [--only list,show,…] [--sizes 1000,100000] [--json FILE]
"""

from __future__ import annotations

import argparse
import fcntl
import math
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from bench import bodies, dataset, machine
from bench.catalogs import Catalogs, Folder
from bench.machine import ToolMissing
from bench.measures import data, requests, starting
from bench.postgres import Postgres
from bench.processes import Server, StartFailed, free_port, listens
from bench.resident import resident
from bench.sides import glance
from bench.sides.side import Side
from bench.table import Results

_ROOT = Path(__file__).resolve().parent.parent
_UPLOADS = 7
"""Turns of one large upload. It keeps all processors of a small machine busy, so whatever its
neighbours do shows in one turn or another: the same upload differed by a fourth between turns."""
KINDS = ("list", "show", "create", "upload", "download", "start")
QUESTIONS = tuple(question.key for question in dataset.questions(1000))
SIDES = ("transom", "glance", "limit", "sqlite", "limit-sqlite")


class OutOfTime(Exception):
    """The run has used up its time; what is measured so far is printed."""


def main(arguments: list[str] | None = None) -> int:
    """Run the measurements that the arguments name; 0 unless something needed is missing."""
    options = _options(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _interrupt)
    results = Results()
    code = 0
    try:
        with ExitStack() as stack:
            Bench(options, results, stack).run()
    except (ToolMissing, StartFailed) as error:
        print(f"bench: {error}", file=sys.stderr)
        code = 1
    except OutOfTime:
        results.problem(f"stopped after {options.minutes} minutes (--minutes)")
    except KeyboardInterrupt:
        print("\nbench: interrupted", file=sys.stderr)
        code = 130
    if results.lines:
        print("\n" + results.text())
        for name, value in results.facts.items():
            print(f"{name}: {value}")
        for problem in results.problems:
            print(f"! {problem}")
        if options.json:
            results.write_json(options.json)
    return code


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure Transom beside a real Glance and the limit programs.",
    )
    parser.add_argument(
        "--quick", action="store_true", help="1,000 images and small bodies: a minute or two"
    )
    parser.add_argument(
        "--only",
        type=lambda text: _some_of(text, KINDS),
        default=KINDS,
        metavar="KIND,…",
        help=f"of {', '.join(KINDS)}",
    )
    parser.add_argument(
        "--questions",
        type=lambda text: _some_of(text, QUESTIONS),
        default=QUESTIONS,
        metavar="KEY,…",
        help=f"kinds of lists: of {', '.join(QUESTIONS)}",
    )
    parser.add_argument(
        "--sides",
        type=lambda text: _some_of(text, SIDES),
        default=SIDES,
        metavar="SIDE,…",
        help=f"of {', '.join(SIDES)}",
    )
    parser.add_argument(
        "--sizes",
        type=lambda text: tuple(int(part) for part in text.split(",")),
        default=None,
        metavar="N,…",
        help="images in the catalog; default 1000,100000,1000000",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there too")
    parser.add_argument(
        "--minutes", type=float, default=30, help="stop measuring after that long; default 30"
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=glance.PROCESSES,
        help="Transom's server.workers on PostgreSQL for small requests; default as many as Glance",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=_ROOT / ".cache" / "bench",
        help="where catalogs and data live; default .cache/bench",
    )
    parser.add_argument("--clean", action="store_true", help="remove the kept catalogs when done")
    options = parser.parse_args(arguments)
    if options.sizes is None:
        options.sizes = (1000,) if options.quick else (1000, 100_000, 1_000_000)
    return options


def _some_of(text: str, allowed: tuple[str, ...]) -> tuple[str, ...]:
    wanted = tuple(text.split(","))
    for word in wanted:
        if word not in allowed:
            raise argparse.ArgumentTypeError(f"'{word}' is none of {', '.join(allowed)}")
    return wanted


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


class Bench:
    """One run: what is there to measure with, and the order of the measurements."""

    def __init__(self, options: argparse.Namespace, results: Results, stack: ExitStack) -> None:
        self._options = options
        self._results = results
        self._stack = stack
        self._deadline = math.inf
        self._repetitions = 1 if options.quick else 3
        self._body_bytes = (128 << 20) if options.quick else (1 << 30)
        self._small_bytes = (4 << 20) if options.quick else (40 << 20)
        self._smallest, self._largest = min(options.sizes), max(options.sizes)

    def run(self) -> None:
        """Prepare everything, then measure what was asked for."""
        began = time.monotonic()
        self._prepare()
        self._results.facts["prepared in"] = f"{time.monotonic() - began:.0f} s"
        began = time.monotonic()
        self._deadline = began + self._options.minutes * 60
        if self._wants("list", "show"):
            for size in self._options.sizes:
                self._lists(size)
        if self._wants("create"):
            self._creates()
        if self._wants("start"):
            self._starts()
        if self._wants("upload", "download"):
            self._data()
        self._results.facts["measured in"] = f"{time.monotonic() - began:.0f} s"

    def _wants(self, *kinds: str) -> bool:
        return any(kind in self._options.only for kind in kinds)

    def _prepare(self) -> None:
        options = self._options
        machine.need("wrk", "wrk")
        path: Path = options.folder.resolve()
        path.mkdir(parents=True, exist_ok=True)
        self._stack.enter_context(_alone(path))
        if options.clean:
            self._stack.callback(shutil.rmtree, path, ignore_errors=True)
        self._folder = Folder(path)
        self._work = self._folder.work
        shutil.rmtree(self._work, ignore_errors=True)
        self._work.mkdir()
        self._stack.callback(shutil.rmtree, self._work, ignore_errors=True)
        self._results.facts.update(machine.describe(path))
        self._postgres = Postgres(self._folder.postgres, path)
        self._stack.callback(self._postgres.stop)
        self._postgres.start()
        self._glance = self._folder.glance(self._postgres)
        self._transom = self._folder.transom()
        self._catalogs = Catalogs(self._folder, self._postgres)
        self._stack.callback(self._catalogs.remove_copies, options.sides)
        if "glance" in options.sides:
            self._glance.install()
            self._results.facts["glance"] = self._glance.version
        print("seeding the catalogs that are missing", flush=True)
        failures = self._catalogs.prepare(options.sides, options.sizes)
        for name, reason in failures.items():
            self._results.problem(f"{name} could not be seeded: {reason}")
        self._failed = {name.rpartition("_")[0] for name in failures}

    # --- starting sides --------------------------------------------------------------------------

    def _sides(self) -> tuple[str, ...]:
        return tuple(side for side in self._options.sides if side not in self._failed)

    def _start(self, side: str, name: str, *, as_project: bool = False, workers: int = 1) -> Side:
        """Start `side` on its catalog `name`; for Transom with tokens (`as_project`), and on
        PostgreSQL with so many processes."""
        database = None if "sqlite" in side else self._postgres.server
        if side == "glance":
            url, server = self._glance.start(name)
            return Side(side, url, server, database, glance.ADMIN, glance.member(_PROJECT))
        if side in ("transom", "sqlite"):
            location = self._postgres.url(name) if side == "transom" else self._transom.sqlite(name)
            identity = "local" if as_project else "none"
            url, server = self._transom.start(
                name, location, identity=identity, workers=workers if side == "transom" else 1
            )
            if not as_project:
                return Side(side, url, server, database)
            token, _ = self._transom.token(name, url)
            return Side(side, url, server, database, None, {"X-Auth-Token": token})
        url, server = self._limit(side, name)
        return Side(side, url, server, database, {}, {"X-Project-Id": _PROJECT})

    def _limit(self, side: str, name: str) -> tuple[str, Server]:
        if side == "limit":
            database, threads = self._postgres.url(name), "2"
        else:
            database = str(self._folder.sqlite_limit(name))
            threads = "1"
        port = free_port()
        argv = [sys.executable, "-m", "bench.limits.catalog", str(port), database, threads]
        return f"http://127.0.0.1:{port}", self._program(argv, port)

    def _program(self, argv: list[str], port: int) -> Server:
        return Server(
            argv,
            log=self._work / "limit.log",
            ready=lambda: listens(port),
            cwd=_ROOT,
            env={"PYTHONPATH": str(_ROOT), "PYTHONPYCACHEPREFIX": str(self._work / "bytecode")},
        ).start()

    @contextmanager
    def _running(
        self, names: dict[str, str], *, as_project: bool, workers: int
    ) -> Iterator[list[Side]]:
        """All sides on their catalogs, ended when the block ends; who cannot start is left out."""
        with ExitStack() as stack:
            sides = []
            for side, name in names.items():
                for project in (False, True) if side in ("transom", "sqlite") else (False,):
                    if project and not as_project:
                        continue
                    try:
                        started = self._start(side, name, as_project=project, workers=workers)
                    except (StartFailed, OSError) as error:
                        self._results.problem(f"{side} on {name}: {error}")
                        continue
                    stack.callback(started.server.stop)
                    sides.append(started)
            yield sides

    # --- the measurements ------------------------------------------------------------------------

    def _lists(self, size: int) -> None:
        print(f"catalogs of {size:,} images", flush=True)
        names = {side: f"{side}_{size}" for side in self._sides()}
        with (
            self._resident(names, size),
            self._running(
                names, as_project=self._wants("list"), workers=self._options.workers
            ) as sides,
        ):
            if self._wants("list"):
                questions = [
                    each for each in dataset.questions(size) if each.key in self._options.questions
                ]
                requests.lists(
                    self._results, sides, questions, size, self._repetitions, self._check_time
                )
            if self._wants("show") and size == self._largest:
                requests.show(self._results, sides, size, self._repetitions)

    @contextmanager
    def _resident(self, sides: Iterable[str], size: int) -> Iterator[None]:
        """The catalogs of so many images in memory, as far as it reaches."""
        with ExitStack() as stack:
            for side in sides:
                try:
                    stack.enter_context(resident(self._catalogs.files(side, size)))
                except OSError as error:
                    self._results.problem(f"{side}_{size} is not held in memory: {error}")
            yield

    def _creates(self) -> None:
        self._check_time()
        print("creating", flush=True)
        names = {side: self._catalogs.copy_for_work(side, self._smallest) for side in self._sides()}
        with self._running(names, as_project=False, workers=self._options.workers) as sides:
            requests.create(self._results, sides, self._repetitions)

    def _starts(self) -> None:
        self._check_time()
        print(f"starting, on {self._largest:,} images", flush=True)

        def starter(side: str) -> Callable[[], Server]:
            return lambda: self._start(side, f"{side}_{self._largest}").server

        starters = {side: starter(side) for side in self._sides()}
        starting.starts(self._results, starters, self._repetitions)

    def _data(self) -> None:
        big, small = self._work / "big.bin", self._work / "small.bin"
        for file, size_bytes in ((big, self._body_bytes), (small, self._small_bytes)):
            _fill(file, size_bytes)
        sides = [side for side in self._sides() if side in ("transom", "glance")]
        names = {side: self._catalogs.copy_for_work(side, self._smallest) for side in sides}
        with self._running(names, as_project=False, workers=1) as running:
            registries = [data.Registry(side) for side in running]
            if self._wants("upload"):
                self._uploads(registries, big, small)
            if self._wants("download"):
                self._downloads(registries, big)
        if self._wants("upload") and "transom" in names:
            self._uploads_unflushed(names["transom"], big)

    def _uploads(self, registries: list[data.Registry], big: Path, small: Path) -> None:
        with self._upload_limit("md5,sha512", fsync=True) as limit:
            targets: list[data.Target] = [*registries, limit]
            data.uploads(
                self._results, targets, big, title=_upload_title(big),
                clients=1, repetitions=1 if self._options.quick else _UPLOADS,
            )  # fmt: skip
            self._check_time()
            data.uploads(
                self._results, targets, small,
                title=f"50 uploads of {small.stat().st_size >> 20} MiB at once",
                clients=50, repetitions=self._repetitions,
            )  # fmt: skip
        self._check_time()

    def _uploads_unflushed(self, name: str, big: Path) -> None:
        url, server = self._transom.start(
            name, self._postgres.url(name), identity="none", fsync=False
        )
        with server, self._upload_limit("md5,sha512", fsync=False) as limit:
            targets: list[data.Target] = [data.Registry(Side("transom", url, server)), limit]
            title = f"{_upload_title(big)}, no fsync"
            data.uploads(
                self._results, targets, big,
                title=title, clients=1, repetitions=self._repetitions,
            )  # fmt: skip
            for unit in ("MiB/s",):
                line = self._results.lines.get(("image data", _upload_title(big), unit))
                if line is not None and "glance" in line.values:
                    # Glance never flushes, so its number belongs in both lines.
                    self._results.put("image data", title, unit, "glance", line.values["glance"])
        with self._upload_limit("md5", fsync=False) as limit:
            data.uploads(
                self._results, [limit], big, title=f"{_upload_title(big)}, md5 alone, no fsync",
                clients=1, repetitions=self._repetitions,
            )  # fmt: skip

    def _downloads(self, registries: list[data.Registry], big: Path) -> None:
        size_bytes = big.stat().st_size
        port = free_port()
        argv = [sys.executable, "-m", "bench.limits.download", str(port), str(big)]
        with self._program(argv, port) as server:
            targets: dict[str, tuple[data.Target, str]] = {}
            for registry in registries:
                url = registry.fresh()
                try:
                    bodies.upload(url, big, registry.headers)
                except OSError as error:
                    self._results.problem(f"download, {registry.key}: {error}")
                    continue
                targets[registry.key] = (registry, url)
            url = f"http://127.0.0.1:{port}/"
            targets["limit"] = (data.Plain("limit", url, server), url)
            middle = (size_bytes // 4 + 1, size_bytes // 4 * 3)
            amount = f"{size_bytes >> 20} MiB"
            for title, clients, byte_range in (
                (f"download of {amount}", 1, None),
                (f"range of {amount}, the middle half", 1, middle),
                (f"16 downloads of {amount} at once", 16, None),
            ):
                self._check_time()
                data.downloads(
                    self._results, targets, size_bytes, title=title, clients=clients,
                    repetitions=self._repetitions if clients > 1 else self._repetitions + 2,
                    byte_range=byte_range,
                )  # fmt: skip

    @contextmanager
    def _upload_limit(self, hashes: str, *, fsync: bool) -> Iterator[data.Plain]:
        port = free_port()
        argv = [
            sys.executable, "-m", "bench.limits.upload",
            str(port), str(self._work), hashes, str(int(fsync)),
        ]  # fmt: skip
        with self._program(argv, port) as server:
            yield data.Plain("limit", f"http://127.0.0.1:{port}/", server)

    def _check_time(self) -> None:
        if time.monotonic() > self._deadline:
            raise OutOfTime


_PROJECT = dataset.project_id(0)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two runs would take each other's databases and processors away."""
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartFailed(
                f"another run works in {folder}: wait for it, or name another --folder"
            ) from None
        yield


def _upload_title(file: Path) -> str:
    return f"upload of {file.stat().st_size >> 20} MiB"


def _fill(file: Path, size_bytes: int) -> None:
    """Random bytes, so that nothing on the way can compress them."""
    with file.open("wb") as target:
        for _ in range(size_bytes >> 22):
            target.write(os.urandom(1 << 22))


if __name__ == "__main__":
    sys.exit(main())
