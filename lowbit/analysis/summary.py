"""Verdicts as text for a terminal, and as a reStructuredText table for the report."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby

from lowbit.analysis.verdicts import NOT_MEASURED, Verdict


def number(value: float, unit: str, *, signed: bool = True) -> str:
    """A value with two decimals, one for a percentage; unsigned, with all its digits, where only zero will do."""
    return f"{value:+.{1 if unit == '%' else 2}f}" if signed else f"{value:.3g}"


def estimate(verdict: Verdict) -> str:
    """Estimate and interval of a verdict with their unit."""
    if verdict.estimate is None:
        return "no estimate"
    signed = not (verdict.of_control or verdict.bound)
    text = f"{number(verdict.estimate, verdict.unit, signed=signed)} {verdict.unit}"
    if verdict.interval is None:
        return text
    low, high = (number(value, verdict.unit, signed=signed) for value in verdict.interval)
    return f"{text}, {100 * verdict.level:.0f} % interval [{low}, {high}]"


def threshold(verdict: Verdict) -> str:
    """The margin of practical equality, if there is one; equality itself for a control; the range of a claim."""
    if verdict.bound:
        return verdict.bound
    if verdict.of_control:
        return "exactly 0"
    return f"±{verdict.threshold:g} {verdict.unit}" if verdict.threshold else "0"


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
    if verdict.verdict == NOT_MEASURED:
        return [f"[{verdict.verdict.upper()}] {verdict.claim}", f"    {verdict.note}"]
    p = "" if verdict.p is None else f", p = {verdict.p:.3g} (Holm {verdict.p_holm:.3g})"
    lines = [
        f"[{verdict.verdict.upper()}] {verdict.claim}",
        f"    {verdict.measure}: {estimate(verdict)}, n = {verdict.n}, threshold {threshold(verdict)}{p}",
    ]
    return [*lines, f"    {verdict.note}"] if verdict.note else lines


_COLUMNS, _TABLES, _ROWS = 4, 2, 16  # tasks beside, studies and claims below each other that a page has room for


def rst(verdicts: Sequence[Verdict]) -> str:
    """A table per study, small enough for all to stand on a report's first page, which does not scroll to its top.

    One study of few tasks has claims down and tasks across, with intervals; of several, outcomes stand in one column;
    many studies or claims have a row for each study, with how often each outcome occurs.
    """
    lines = []
    studies = [(study, list(of_study)) for study, of_study in groupby(verdicts, key=lambda v: v.study)]
    if len(studies) > _TABLES or len({(v.study, v.claim) for v in verdicts}) > _ROWS:
        rows = [["Study", "Claims and tasks", "Verdicts"]]
        rows += [[_escaped(study), str(len(group)), _counts(group)] for study, group in studies]
        return "\n".join([".. list-table::", "   :header-rows: 1", "", *_table(rows), ""])
    for study, group in studies:
        by_place = {(v.claim, v.task): v for v in group}
        claims, tasks = (list(dict.fromkeys(keys)) for keys in zip(*by_place, strict=True))
        devices = " and ".join(dict.fromkeys(v.device for v in group if v.device))
        lines += [f"**Study {_escaped(study)}** ({_escaped(devices)})", "", ".. list-table::", "   :header-rows: 1", ""]
        if len(studies) == 1 and len(tasks) <= _COLUMNS:
            rows = [["Claim", *(_escaped(task) for task in tasks)]]
            rows += [[_escaped(claim), *(_cell(by_place.get((claim, task))) for task in tasks)] for claim in claims]
        else:
            rows = [["Claim", "Verdicts"]]
            rows += [[_escaped(claim), _outcomes(group, claim, len(tasks) <= _COLUMNS)] for claim in claims]
        lines += [*_table(rows), ""]
    return "\n".join(lines)


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"   {'* -' if i == 0 else '  -'} {cell}" for row in rows for i, cell in enumerate(row)]


def _counts(verdicts: Sequence[Verdict]) -> str:
    """How often each outcome occurs, the most frequent first."""
    counts = Counter(verdict.verdict for verdict in verdicts)
    return "; ".join(f"**{outcome}** {count}" for outcome, count in counts.most_common())


def _cell(verdict: Verdict | None) -> str:
    if verdict is None:
        return "not asked"
    measured = estimate(verdict).replace(" interval", "")
    return f"**{verdict.verdict}**: {_escaped(measured)}, n = {verdict.n}"


def _outcomes(verdicts: Sequence[Verdict], claim: str, named: bool) -> str:
    """Where, or how often, a claim has each outcome."""
    found: dict[str, list[str]] = {}
    for verdict in verdicts:
        if verdict.claim == claim:
            found.setdefault(verdict.verdict, []).append(_escaped(verdict.task))
    if named and len(found) == 1 and len(next(iter(found.values()))) > 1:
        return f"**{next(iter(found))}** on every task"
    parts = (f"**{outcome}** {', '.join(tasks) if named else len(tasks)}" for outcome, tasks in found.items())
    return "; ".join(parts)


def _escaped(cell: str) -> str:
    return "".join(f"\\{character}" if character in "*_`|\\" else character for character in cell)
