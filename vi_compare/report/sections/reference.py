"""The draws that stand for the truth: where they came from, and whether to believe them."""

from __future__ import annotations

from vi_compare import formatting
from vi_compare.report.blocks import Cell, Column, Note, Row, Section, Table
from vi_compare.report.view import View
from vi_compare.verdict import Concern


def section(view: View) -> Section:
    lead, blocks = _found(view) if view.has_reference else ("", [_none()])
    return Section("reference", "Reference", lead, blocks, order=105)


def _none() -> Note:
    text = (
        "There are none, so nothing here says what a fit misses. Leave --reference as it is, "
        "or give exact(key, n) or a file of draws."
    )
    return Note(text, boxed=True)


def _found(view: View) -> tuple[str, list]:
    """The lead and what follows it."""
    columns = [Column.words("Check"), Column.words("Found"), Column.words("Good when")]
    rows = [Row(cells) for cells in _checks(view)]
    caption = (
        "Stein's identities see a shift, a scale or the wrong model, not wrong weights of modes "
        "far apart. The basin masses do, where some fit has found the mode. What the reference "
        "and every fit miss alike cannot be seen."
    )
    notes = [
        Note(f"{doubt.words[0].upper()}{doubt.words[1:]}.", "In doubt", True)
        for doubt in view.doubts
    ]
    lead = _origin(view.target["reference"])
    return lead, [*notes, Table(columns, rows, caption=caption)]


def _origin(reference: dict) -> str:
    """Where the draws came from, and what of it was no draw, in sentences."""
    match reference["source"]:
        case "exact":
            return "Independent draws of the script's exact(key, n)."
        case "chains":
            return (
                "Many short chains, half of them from inside and half from outside of a Gaussian. "
                "They are believed once nothing tells any more where they started. They cannot "
                "see a mode that no ascent has ended in."
            )
        case "nuts":
            return "NUTS, run by vi_compare on the same log density."
        case "file":
            settings = reference.get("settings", {})
            files = formatting.listed(settings.get("files", [])) or "a file"
            lost = settings.get("left_out", {}).items()
            left_out = [f"{formatting.count(n)} {what} were left out." for what, n in lost]
            return " ".join([f"Draws made elsewhere, in {files}.", *left_out])
    return ""


def _checks(view: View) -> list[list[Cell]]:
    reference = view.target["reference"]
    rows = [[Cell("Draws in the test set"), Cell(formatting.count(reference["draws"])), Cell("")]]
    if stein := reference.get("stein"):
        z = stein["largest_z"]
        found = "could not be made" if z is None else f"|z| {z:.1f}"
        title = f"Stein's identities, largest of {formatting.count(stein['tests'])}"
        rows.append(_judged(title, found, stein["passed"], f"at most {stein['limit']:.1f}"))
    rows += _of_chains(reference.get("diagnosis"))
    rows += _of_starts(reference.get("settings", {}).get("look"))
    rows += _of_regions(reference.get("settings", {}).get("regions"))
    rows.append(_of_basins(view))
    return rows


def _of_chains(known: dict | None) -> list[list[Cell]]:
    if known is None:
        return []
    chains, draws = known["chains"], formatting.count(known["draws"])
    limits = known["limits"]
    rows = [[Cell("Chains"), Cell(f"{chains}, with {draws} draws in all"), Cell("")]]
    if (rhat := known["rhat"]) is not None:
        most = limits["rhat"]
        rows.append(
            _judged("R-hat, largest", formatting.plain(rhat, 4), rhat <= most, f"at most {most}")
        )
    worth = formatting.count(round(known["ess"]))
    title, limit = "Effective draws in the test set, smallest", f"at least {limits['ess']}"
    rows.append(_judged(title, worth, known["ess"] >= limits["ess"], limit))
    if (share := known["divergences"]) is not None:
        most, found = limits["divergences"], f"{100 * share:.2g} %"
        limit = f"at most {100 * most:g} %"
        rows.append(_judged("Divergent transitions", found, share <= most, limit))
    return rows


def _of_starts(seen: dict | None) -> list[list[Cell]]:
    """Whether anything tells where short chains started."""
    if seen is None:
        return []
    titles = {
        "bracket": "Chains from inside against chains from outside, largest |z|",
        "trend": "Second halves of the chains against the first, largest |z|",
        "memory": "Rank correlation with where they started, largest |z|",
    }
    most = f"at most {seen['limit']:.1f}"
    rows = [
        _judged(title, f"{seen[name]:.1f}", seen[name] <= seen["limit"], most)
        for name, title in titles.items()
    ]
    least, worth = seen["worth_needed"], seen["worth"]
    title = "Independent draws that each chain is worth, smallest"
    rows.append(_judged(title, f"{worth:.1f}", worth >= least, f"at least {least:g}"))
    nested = formatting.plain(seen["nested_rhat"], 4)
    rows.append([Cell("Nested R-hat, largest"), Cell(nested), Cell("")])
    return rows


def _of_regions(regions: list[dict] | None, most: int = 5) -> list[list[Cell]]:
    """The largest regions that chains did not leave, and what each holds."""
    if not regions:
        return []
    shares = [formatting.percent(r["share"], r["standard_error"]) for r in regions[:most]]
    more = f" and {len(regions) - most} more" if len(regions) > most else ""
    title = "Regions around modes, weighed by bridge sampling"
    return [[Cell(title), Cell(", ".join(shares) + more), Cell("")]]


def _judged(title: str, found: str, good: bool, limit: str) -> list[Cell]:
    return [Cell(title), Cell(found, mark="good" if good else "bad"), Cell(limit)]


def _of_basins(view: View) -> list[Cell]:
    basins = view.target["reference"].get("basins") or {}
    title = Cell("Basin masses against the weighted draws of all fits")
    if basins.get("khat") is None:
        return [title, Cell(f"not made: {basins.get('reason') or 'not recorded'}"), Cell("")]
    wrong = any(doubt.kind == Concern.MISSED_MODE for doubt in view.doubts)
    found = Cell("disagree" if wrong else "agree", mark="bad" if wrong else "good")
    return [
        title,
        found,
        Cell(f"within error; k̂ of the weights is {formatting.fixed(basins['khat'], 2)}"),
    ]
