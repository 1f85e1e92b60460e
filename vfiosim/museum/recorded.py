"""A recording of the real kernel for people: what was asked, and what it answered."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..conformance.check import shown

OBSERVED = {"kvm_live": "how many VMs are alive"}


def in_words(steps: Sequence[Mapping[str, Any]], answers: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Each call and its answer in words, descriptors with the number that they had: "close 5 (dev)", "0"."""
    known: dict[str, Any] = {}
    for step, answer in zip(steps, answers, strict=True):
        asked = _asked(step, known)
        known |= _learned(step, answer)
        seen = answer.get("out", {}) if step["call"] == "observe" else {}
        yield asked, ", ".join(f"{name} = {now}" for name, now in seen.items()) or _answered(answer, known)


def answer_line(answer: Mapping[str, Any]) -> str:
    """An answer as it was recorded, in one line."""
    if "state" in answer:
        return _ended(answer)
    out = ", ".join(f"{name} = {value}" for name, value in answer.get("out", {}).items())
    return f"{answer['errno'] or answer['ret']}{' with ' + out if out else ''}"


def _ended(answer: Mapping[str, Any]) -> str:
    said = {"proc_gone": "the process is killed: the kernel crashed", "not_run": "never made"}
    return said.get(answer["state"], str(answer["state"]))


def _learned(step: Mapping[str, Any], answer: Mapping[str, Any]) -> dict[str, Any]:
    """The names that this step gives to numbers from now on."""
    saved, number = step.get("save"), answer.get("num")
    if isinstance(saved, str):
        return {} if number is None else {saved: number}
    numbers = {**answer.get("out", {}), **(number or {})}
    return {name: numbers[field] for field, name in (saved or {}).items() if field in numbers}


def _asked(step: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    who = f"{step['proc']}: " if "proc" in step else ""
    call, fd = step["call"], _value(step.get("fd", ""), known)
    if call == "open":
        return f"{who}open {_value(step['path'], known)}"
    if call == "close":
        return f"{who}close {fd}"
    if call == "observe":
        return f"look at {step['what']}" + (f": {OBSERVED[step['what']]}" if step["what"] in OBSERVED else "")
    if call != "ioctl":
        return shown(step)
    argument = step.get("arg")
    fields = (
        ", ".join(f"{name} = {_value(value, known)}" for name, value in argument.items())
        if isinstance(argument, dict)
        else ""
    )
    if argument and not isinstance(argument, dict):
        fields = _value(argument, known)
    where = f" in {step['ptr']} memory" if "ptr" in step else ""
    return f"{who}{step['request']} on {fd}{where}{': ' if fields else ''}{fields}"


def _value(value: Any, known: Mapping[str, Any]) -> str:
    if isinstance(value, list):
        return " | ".join(_value(each, known) for each in value)
    if isinstance(value, dict):
        return ", ".join(_value(each, known) for each in value.values())
    if isinstance(value, str) and value.startswith("$"):
        name = value[1:]
        return f"{known[name]} ({name})" if name in known else name
    return re.sub(r"@([\w.]+)", r"‹\1›", str(value))


def _answered(answer: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    if "state" in answer:
        return _ended(answer)
    if answer["errno"]:
        return f"refused: {answer['errno']}"
    wrote = ", ".join(f"{name} = {_value(value, known)}" for name, value in answer.get("out", {}).items())
    if isinstance(answer["ret"], str):
        return f"descriptor {_value(answer['ret'], known)}"
    return f"{answer['ret']}{', and wrote ' + wrote if wrote else ''}"
