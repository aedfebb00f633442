"""Verdicts as text for a terminal, and as a reStructuredText table for the report."""

from collections.abc import Iterable, Sequence
from itertools import groupby

from lowbit.analysis.verdicts import Verdict


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


_COLUMNS = 4  # tasks beside each other that a page has room for


def rst(verdicts: Sequence[Verdict]) -> str:
    """A table per study, claims down and tasks across: small enough to stand on the first page of a report."""
    lines = []
    for study, of_study in groupby(verdicts, key=lambda v: v.study):
        group = list(of_study)
        by_place = {(v.claim, v.task): v for v in group}
        claims, tasks = (list(dict.fromkeys(keys)) for keys in zip(*by_place, strict=True))
        devices = " and ".join(dict.fromkeys(v.device for v in group))
        lines += [f"**Study {_escaped(study)}** ({_escaped(devices)})", "", ".. list-table::", "   :header-rows: 1", ""]
        if len(tasks) <= _COLUMNS:
            rows = [["Claim", *(_escaped(task) for task in tasks)]]
            rows += [[_escaped(claim), *(_cell(by_place.get((claim, task))) for task in tasks)] for claim in claims]
        else:
            outcomes = tuple(dict.fromkeys(v.verdict for v in group))
            rows = [["Claim", *outcomes]]
            rows += [[_escaped(claim), *(_places(group, claim, outcome) for outcome in outcomes)] for claim in claims]
        for row in rows:
            lines += [f"   {'* -' if i == 0 else '  -'} {cell}" for i, cell in enumerate(row)]
        lines += [""]
    return "\n".join(lines)


def _cell(verdict: Verdict | None) -> str:
    if verdict is None:
        return "not asked"
    measured = estimate(verdict).replace(" interval", "")
    return f"**{verdict.verdict}**: {_escaped(measured)}, n = {verdict.n}"


def _places(verdicts: Sequence[Verdict], claim: str, outcome: str) -> str:
    """The tasks in which a claim has an outcome, with its estimates."""
    found = [v for v in verdicts if (v.claim, v.verdict) == (claim, outcome)]
    cells = (
        f"{_escaped(v.task)}{'' if v.estimate is None else f' ({number(v.estimate, v.unit)} {v.unit})'}" for v in found
    )
    return "; ".join(cells) or "none"


def _escaped(cell: str) -> str:
    return "".join(f"\\{character}" if character in "*_`|\\" else character for character in cell)
