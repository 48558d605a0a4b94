"""`make fuzz`: whatever a venue replies, it is never more than it says.

A coverage-guided run (atheris, libFuzzer) over every venue's flows and AscendEX's stream: replies
are made from the documents' samples, changed as JSON and as bytes, and handed to the flow's calls.
What comes out must be a value or an error of ours. An Ack must be one by a second reading of the
same bytes, by the standard library's parser and the words of each venue's documents; a listing
must hold every order that the reply holds; a message of the stream is an event or not understood.

Stops after `--seconds`. Exits 1 if anything else came out, or if handling the same replies over
again keeps memory. Needs the dependency group `fuzz`, which is for Linux.
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import os
import shutil
import sys
import tempfile
import time
import traceback
import tracemalloc
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from itertools import chain, repeat
from pathlib import Path
from random import Random
from typing import Any, Final

from figures import show_progress

atheris: Any = import_module("atheris")

with atheris.instrument_imports(include=["masscancel"]):
    from fuzz_readings import ID, NOW, STAMP, Asked
    from fuzz_subjects import SUBJECTS, Subject
    from masscancel import MassCancelError
    from masscancel.calls import Call, Reply

STATUSES: Final = (200, 200, 200, 200, 400, 401, 403, 404, 418, 429, 500, 502, 503, 201, 302, 408)
SEPARATOR: Final = b"\0\xff\0"
#: What may be kept of replies that have been handled before, in KiB.
KEPT_KIB: Final = 64


# --- one input ------------------------------------------------------------------------------------


def unpack(data: bytes) -> tuple[Subject, int, list[bytes]]:
    """Bytes as libFuzzer has them: the subject, the HTTP status, then bodies."""
    head, bodies = data[:2].ljust(2, b"\0"), data[2:].split(SEPARATOR)[:4]
    return SUBJECTS[head[0] % len(SUBJECTS)], STATUSES[head[1] % len(STATUSES)], bodies


def play(subject: Subject, status: int, bodies: Sequence[bytes]) -> tuple[Any, list[Asked]]:
    """Take the flow to its end: each call gets the next body, and the last one again and again.

    Only the first reply has the status: others are fine.
    """
    statuses = chain([status], repeat(200))
    left = chain(bodies, repeat(bodies[-1]))
    asked: list[Asked] = []

    def answer(call: Call[Any]) -> Any:
        reply = Reply(next(statuses), {"Retry-After": "1"}, next(left))
        asked.append(Asked(call, reply))
        try:
            value = call.decode(reply, STAMP)
            return to_end(value, lambda _: None) if isinstance(value, Generator) else value
        except MassCancelError as error:
            return error

    def step(parts: Sequence[Any]) -> list[Any]:
        return [to_end(p, step) if isinstance(p, Generator) else answer(p) for p in parts]

    return to_end(subject.flow(), step), asked


def to_end(work: Generator[Any, Any, Any], step: Callable[[Any], Any]) -> Any:
    """The value that a flow, or a listing in slices, comes to, or its error."""
    try:
        parts = next(work)
        while True:
            parts = work.send(step(parts))
    except StopIteration as stop:
        return stop.value
    except MassCancelError as error:
        return error


class Report:
    """What has come of it so far."""

    def __init__(self, seconds: float, corpus: str, *, as_json: bool) -> None:
        self.corpus = corpus
        self.as_json = as_json
        self.began = time.monotonic()
        self.ends = self.began + seconds
        self.inputs = 0
        self.values: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.wrong: dict[str, str] = {}
        self.recent: list[bytes] = []
        self.rss = resident()

    def try_one(self, data: bytes) -> None:
        """Play an input and judge what comes out; when the time is up, report and end."""
        if time.monotonic() > self.ends:
            self.finish()
        self.inputs += 1
        if self.inputs % 64 == 0:
            self.recent = [*self.recent[-511:], data]
        if self.inputs % 8192 == 0:
            left = max(0.0, self.ends - time.monotonic())
            show_progress(f"{left:.0f} s left: {self.inputs:,} inputs, {len(self.wrong)} wrong")
        if self.inputs == 10_000:
            self.rss = resident()
        subject, status, bodies = unpack(data)
        try:
            value, asked = play(subject, status, bodies)
            if isinstance(value, MassCancelError):
                self.errors[type(value).__name__] += 1
                assert str(value).isprintable()
                return
            self.values[subject.name] += 1
            assert subject.right(value, asked), f"{subject.name} made {value!r} of it"
        except Exception as problem:  # noqa: BLE001  # this is what is looked for
            where = traceback.extract_tb(problem.__traceback__)[-1]
            key = f"{subject.name}: {type(problem).__name__} at {where.name}:{where.lineno}"
            self.wrong.setdefault(key, f"{problem!r:.300} of HTTP {status} {bodies!r:.600}")

    def finish(self) -> None:
        """Report, and leave."""
        self.ends = float("inf")
        kept = self.kept_kib()
        report = {
            "inputs": self.inputs,
            "inputs_per_second": round(self.inputs / (time.monotonic() - self.began)),
            "subjects": len(SUBJECTS),
            "values": sum(self.values.values()),
            "values_of": dict(self.values.most_common()),
            "never_a_value": [each.name for each in SUBJECTS if each.name not in self.values],
            "errors": dict(self.errors.most_common()),
            "wrong": self.wrong,
            "kept_kib": kept,
            "rss_mib": [self.rss, resident()],
        }
        said = [f"{len(self.wrong)} kinds of wrong values or errors"] if self.wrong else []
        said += [f"{kept} KiB kept"] if kept > KEPT_KIB else []
        show_progress()
        if self.as_json:
            print(json.dumps(report, indent=1), flush=True)  # noqa: T201  # it is a script
        else:
            show(report)
            print(  # noqa: T201  # likewise
                f"WRONG: {', '.join(said)}"
                if said
                else "All right: nothing was more than it says.",
                flush=True,
            )
        shutil.rmtree(self.corpus)
        os._exit(1 if said else 0)

    def kept_kib(self) -> float:
        """What handling the latest inputs a second and a third time keeps in memory."""
        if not self.recent:
            return 0.0

        def again() -> None:
            for data in self.recent:
                with suppress(Exception):
                    play(*unpack(data))

            gc.collect()

        tracemalloc.start()
        again()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(5):
            again()
        return round((tracemalloc.get_traced_memory()[0] - before) / 1024, 1)


def show(report: dict[str, Any]) -> None:
    """For people: a count a line, then what was wrong."""
    lines = [
        "{inputs:,} inputs for {subjects} subjects, {inputs_per_second:,} a second".format(
            **report
        ),
        f"{report['values']:,} became a value:",
        *(f"  {count:>9,}  {name}" for name, count in report["values_of"].items()),
        *(f"      never  {name}" for name in report["never_a_value"]),
        "the others an error of ours:",
        *(f"  {count:>9,}  {name}" for name, count in report["errors"].items()),
        f"kept {report['kept_kib']} KiB; resident MiB, from then to now: {report['rss_mib']}",
        *(f"{key}\n  {what}" for key, what in report["wrong"].items()),
    ]
    print("\n".join(lines))  # noqa: T201  # it is a script


def resident() -> int:
    """This process's resident memory, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 2**20


# --- new inputs -----------------------------------------------------------------------------------

ODD: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, 1, -1, 0.5, 2**64, 10**400, NOW, [], {}),
    *("", "0", ID, "1e999999", "NaN", "\x1b[2J", "\ud800"),
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a JSON value: what holds it, and the key or index."""
    if isinstance(value, dict | list):
        for key in [*value] if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places(value[key])


class Pool:
    """What a change may put in: names and values of a subject's samples, and what is odd."""

    def __init__(self, subject: Subject) -> None:
        self.of_name: defaultdict[str, list[Any]] = defaultdict(list)
        self.values: list[Any] = [*ODD]
        for body in subject.samples:
            for holder, key in places(json.loads(body)):
                if isinstance(key, str):
                    self.of_name[key].append(holder[key])
                if not isinstance(holder[key], dict | list):
                    self.values.append(holder[key])
        self.names = sorted(self.of_name)

    def value(self, name: Any, old: Any, rng: Random) -> Any:
        """A value for a field: one that it has elsewhere, one near it, or any."""
        how = rng.randrange(4)
        if how == 0 and type(old) is int:
            return rng.choice((-old, old + 1, old - 1, old + rng.randint(-2_000, 2_000)))
        if how < 2 and self.of_name.get(name):
            return copy.deepcopy(rng.choice(self.of_name[name]))
        return copy.deepcopy(rng.choice(self.values))


POOLS: Final = [Pool(subject) for subject in SUBJECTS]


def changed(body: bytes, pool: Pool, rng: Random) -> bytes:
    """A body with a field replaced, taken out, added or doubled, if it is JSON."""
    value: Any = None
    with suppress(ValueError, RecursionError):
        value = json.loads(body)
    for _ in range(rng.randint(1, 3)):
        found = [*places(value)]
        if not found:
            value = copy.deepcopy(rng.choice(pool.values))
            continue
        holder, key = rng.choice(found)
        what = rng.randrange(6)
        if what == 0:
            del holder[key]
        elif what == 1 and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        elif what == 1:
            name = rng.choice(pool.names)
            holder[name] = pool.value(name, None, rng)
        else:
            holder[key] = pool.value(key, holder[key], rng)
    return json.dumps(value).encode()


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """An input made of another, as bytes or as JSON; or a new one, made of a sample or two."""
    rng = Random(seed)
    how = rng.random()
    if how < 0.2:
        mutated: bytes = atheris.Mutate(data, max_size)
        return mutated
    head, bodies = bytearray(data[:2].ljust(2, b"\0")), data[2:].split(SEPARATOR)[:3]
    if how < 0.7:
        head = bytearray((rng.randrange(len(SUBJECTS)), rng.randrange(4 if how < 0.6 else 16)))
        bodies = rng.choices(SUBJECTS[head[0]].samples, k=rng.randint(1, 2))
    elif how < 0.75:
        bodies.insert(0, rng.choice(SUBJECTS[head[0] % len(SUBJECTS)].samples))
    at = rng.randrange(len(bodies))
    bodies[at] = changed(bodies[at], POOLS[head[0] % len(SUBJECTS)], rng)
    return (bytes(head) + SEPARATOR.join(bodies))[:max_size]


def main() -> None:
    """Begin with the samples, and go on until the time is up."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=180, help="how long (default: 180)")
    parser.add_argument("--seed", type=int, default=1, help="of the random changes (default: 1)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    sys.set_int_max_str_digits(0)
    corpus = tempfile.mkdtemp()
    for number, subject in enumerate(SUBJECTS):
        for index, body in enumerate(subject.samples):
            Path(corpus, f"{number}-{index}").write_bytes(bytes([number, 0]) + body)
    report = Report(options.seconds, corpus, as_json=options.json)
    flags = [f"-seed={options.seed}", "-max_len=65536", "-verbosity=0", "-rss_limit_mb=1024"]
    atheris.Setup([sys.argv[0], *flags, corpus], report.try_one, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
