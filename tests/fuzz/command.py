"""The command `python -m tests.fuzz`, which `make fuzz` runs."""

from __future__ import annotations

import argparse
import json
import os
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Final

from .corpus import corpus
from .run import FuzzTotals, fuzz

_LONG: Final = 500_000  # ioctls after which every request that can succeed must have succeeded
_FAIR: Final = 100_000  # after which those must have that recordings show succeeding often
_SELDOM: Final = 20  # times
PART: Final = 5_000  # ioctls made in one go by one worker, at most, unless told otherwise


def main(argv: list[str] | None = None) -> int:
    """Fuzz. Returns 0 if all was as it must be, 1 if not, 2 if the command makes no sense."""
    try:
        options = _parser().parse_args(argv)
    except SystemExit as stop:  # --help, or a bad command
        return int(stop.code or 0)
    if not options.json:
        print(f"{options.ioctls:,} ioctls by {options.workers} workers, seed {options.seed}", flush=True)
    start = time.perf_counter()
    totals = _all_parts(parts(options.ioctls, options.seed, options.part), options.workers)
    seconds = time.perf_counter() - start
    if options.json:
        print(json.dumps({"seed": options.seed} | as_data(totals), indent=1))
    else:
        print("\n".join(_in_words(totals)))
        print(f"{seconds:.0f} s, {totals.ioctls / max(seconds, 0.001):,.0f} ioctls a second")
    wrong = what_is_wrong(totals)
    if wrong and not options.json:
        print("\n".join(wrong))
    return 1 if wrong else 0


def what_is_wrong(totals: FuzzTotals) -> list[str]:
    """What a run that came to this has found, in words: requests that ought to have succeeded, and the three shortest programs."""
    missing = _missing(totals)
    failures = sorted(totals.failures, key=lambda failure: len(failure.steps))[:3]
    return [*([f"that ought to have succeeded: {', '.join(missing)}"] if missing else ()), *map(str, failures)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz",
        description="Make calls that are mostly wrong, and see that the simulator only answers what a kernel could.",
        epilog="Exit status: 0 nothing found, 1 something found or a request never succeeded, 2 for a bad command.",
    )
    parser.add_argument("--ioctls", type=_positive, default=100_000, metavar="N", help="how many (default 100,000)")
    parser.add_argument(
        "--seed", default="1", metavar="S", help="any text; the same seed makes the same calls (default 1)"
    )
    parser.add_argument(
        "--workers", type=_positive, default=os.cpu_count() or 1, metavar="N", help="processes that share the work"
    )
    parser.add_argument(
        "--part",
        type=_positive,
        default=PART,
        metavar="N",
        help=f"calls made in one go by one of them (default {PART:,})",
    )
    parser.add_argument("--json", action="store_true", help="write one JSON object")
    return parser


def _positive(text: str) -> int:
    """A number of things. Raises ArgumentTypeError for anything else."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number")
    return int(text)


def parts(ioctls: int, seed: str, most: int = PART) -> list[tuple[str, int]]:
    """The seed and the number of ioctls of each part; the parts are of even size, whoever will make them."""
    many = -(-ioctls // most)
    return [(f"{seed}.{part}", ioctls * (part + 1) // many - ioctls * part // many) for part in range(many)]


def _all_parts(made: list[tuple[str, int]], workers: int) -> FuzzTotals:
    """All of it; the calls do not depend on the number of workers."""
    seeds, sizes = zip(*made, strict=True)
    totals = FuzzTotals()
    if workers < 2 or len(sizes) < 2:
        for part in map(fuzz, seeds, sizes):
            totals.add(part)
        return totals
    with ProcessPoolExecutor(workers) as pool:
        for part in pool.map(fuzz, seeds, sizes):
            totals.add(part)
    return totals


def _missing(totals: FuzzTotals) -> list[str]:
    """Requests that ought to have succeeded and never did."""
    never = totals.never_succeeded() if totals.ioctls >= _FAIR else []
    if totals.ioctls >= _LONG and not any(what.startswith("IOMMU_TEST_CMD is") for what in totals.unsupported):
        return never  # what needs the kernel's own test device may lack it
    return [name for name in never if corpus().succeeds[name] > _SELDOM]


def as_data(totals: FuzzTotals) -> dict[str, Any]:
    """All counts, for programs."""
    answers: dict[str, dict[str, int]] = {}
    for (request, answer), n in sorted(totals.answers.items()):
        answers.setdefault(request, {})[answer] = n
    return vars(totals) | {
        "answers": answers,
        "never_succeeded": totals.never_succeeded(),
        "failures": [vars(failure) for failure in totals.failures],
    }


def _in_words(totals: FuzzTotals) -> list[str]:
    data = as_data(totals)
    lines = []
    for request, answers in data["answers"].items():
        counts = sorted(answers.items(), key=lambda item: (item[0] != "ok", -item[1], item[0]))
        lines.append(f"{request:36} " + ", ".join(f"{answer} {n}" for answer, n in counts))
    lines += [f"not modelled, {n} times: {what}" for what, n in totals.unsupported.most_common()]
    lines += [f"known surprise, seen {n} times: {what}" for what, n in sorted(totals.surprises.items())]
    lines += [
        f"never succeeded: {', '.join(data['never_succeeded']) or 'no request that a recording shows succeeding'}"
    ]
    share = 100 * totals.from_abi / max(totals.ioctls, 1)
    lines += [
        f"{totals.ioctls:,} ioctls ({share:.0f} % requests of the ABI) on {totals.machines:,} machines, "
        f"{totals.steps:,} calls in all, {totals.blocked:,} blocked, {totals.oopses:,} oopses, {len(totals.failures)} failures"
    ]
    return lines
