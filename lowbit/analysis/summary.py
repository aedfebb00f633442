"""Verdicts as text for a terminal, and as a reStructuredText table for the report."""

from collections.abc import Iterable, Sequence
from itertools import groupby

from lowbit.analysis.verdicts import Verdict

_COLUMNS = ("Task", "Claim", "Verdict", "Estimate", "Threshold", "n")
_WIDTHS = (14, 30, 12, 26, 10, 4)


def number(value: float, unit: str, *, signed: bool = True) -> str:
    """A value with two decimals, one for a percentage; unsigned, with all its digits, where only zero will do."""
    return f"{value:+.{1 if unit == '%' else 2}f}" if signed else f"{value:.3g}"


def estimate(verdict: Verdict) -> str:
    """Estimate and interval of a verdict with their unit."""
    if verdict.estimate is None:
        return "no estimate"
    text = f"{number(verdict.estimate, verdict.unit, signed=verdict.threshold != 0)} {verdict.unit}"
    if verdict.interval is None:
        return text
    low, high = (number(value, verdict.unit) for value in verdict.interval)
    return f"{text}, {100 * verdict.level:.0f} % interval [{low}, {high}]"


def threshold(verdict: Verdict) -> str:
    """The margin of practical equality; equality itself for a control."""
    return "exactly 0" if verdict.threshold == 0 else f"±{verdict.threshold:g} {verdict.unit}"


def text(verdicts: Iterable[Verdict]) -> str:
    """Every verdict in two or three lines, by study and task."""
    lines = []
    for study, of_study in groupby(verdicts, key=lambda v: v.study):
        lines += [f"Study {study}", ""]
        for task, of_task in groupby(of_study, key=lambda v: v.task):
            group = list(of_task)
            lines.append(f"  {task} ({group[0].device})")
            for verdict in group:
                lines += [f"    {line}" for line in _lines(verdict)]
            lines.append("")
    return "\n".join(lines)


def _lines(verdict: Verdict) -> list[str]:
    p = "" if verdict.p is None else f", p = {verdict.p:.3g} (Holm {verdict.p_holm:.3g})"
    lines = [
        f"[{verdict.verdict.upper()}] {verdict.claim}",
        f"    {verdict.measure}: {estimate(verdict)}, n = {verdict.n}, threshold {threshold(verdict)}{p}",
    ]
    return [*lines, f"    {verdict.note}"] if verdict.note else lines


def rst(verdicts: Sequence[Verdict]) -> str:
    """A list table of the verdicts, one per study, with the notes below."""
    lines = []
    for study, of_study in groupby(verdicts, key=lambda v: v.study):
        group = list(of_study)
        devices = " and ".join(dict.fromkeys(v.device for v in group))
        lines += [f"**Study {_escaped(study)}** ({_escaped(devices)})", "", ".. list-table::", "   :header-rows: 1"]
        lines += [f"   :widths: {' '.join(map(str, _WIDTHS))}", ""]
        rows = [_COLUMNS] + [(v.task, v.claim, v.verdict.upper(), estimate(v), threshold(v), str(v.n)) for v in group]
        for row in rows:
            lines += [f"   {'* -' if i == 0 else '  -'} {_escaped(cell)}" for i, cell in enumerate(row)]
        lines += [""]
        lines += [f"- {_escaped(f'{v.task}, {v.claim}: {v.note}')}" for v in group if v.note]
        lines += [""]
    return "\n".join(lines)


def _escaped(cell: str) -> str:
    return "".join(f"\\{character}" if character in "*_`|\\" else character for character in cell)
