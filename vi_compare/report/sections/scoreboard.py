"""Every fit on the same scale."""

from __future__ import annotations

from dataclasses import replace

from vi_compare import formatting
from vi_compare.estimate import ALL
from vi_compare.report.blocks import (
    Cell,
    Column,
    Row,
    Section,
    Table,
    measured,
    missing,
    name_of,
    unconfirmed,
)
from vi_compare.report.marks import SCALES
from vi_compare.report.view import COVERED, FitView, View

ORDER = 0

# metric, heading, unit line, shown in per cent, what it is
METRICS = (
    ("missed_mass", "Missed", "mass", True, "target mass where the fit has almost nothing"),
    (
        "invented_mass",
        "Invented",
        "mass",
        True,
        "mass of the fit where the target has almost nothing",
    ),
    ("mode_coverage", "Modes", "covered", False, "modes with at least a tenth of their mass"),
    ("coverage", "90 %", "holds", True, "target mass inside the fit's 90 % interval, worst margin"),
    (
        "mean_shift",
        "Mean",
        "off ÷ sd",
        False,
        "largest |mean of the fit − mean of the target| ÷ sd of the target; 0.3 is the bar of "
        "Baudart and Mandel (2021)",
    ),
    ("sd_ratio", "sd", "ratio", False, "sd of the fit ÷ sd of the target, worst margin"),
    ("khat", "k̂", "", False, "Pareto k̂ of the importance weights"),
)


def section(view: View) -> Section:
    relative = _relative(view)
    kls = [
        Column("Forward KL", "nats", title="KL(p‖q) = E_p[log p − log q]"),
        Column("ELBO", "nats", title="E_q[log p̃ − log q], at most log Z: the larger the better")
        if relative
        else Column("Reverse KL", "nats", title="KL(q‖p) = E_q[log q − log p]"),
    ]
    columns = [Column.words("Fit"), *kls]
    columns += [Column(head, unit, title=title) for _, head, unit, _, title in METRICS]
    columns += [Column("Time", "s", title="compilation and run together")]
    rows = [Row(_confirmed(view, _cells(fit, relative)), fit) for fit in view.fits]
    caption = (
        "✓ within the limit, ! near it, ✗ outside; limits stand under Reproduce. "
        "± is one Monte Carlo standard error. Where there are several margins the worst is shown."
    )
    if relative:
        caption += (
            " The target is not normalised, so an absolute reverse KL does not exist; differences "
            "in ELBO between two fits are differences in reverse KL."
        )
    return Section(
        "scoreboard", "Scoreboard", blocks=[Table(columns, rows, "scoreboard", caption=caption)]
    )


def _confirmed(view: View, cells: list[Cell]) -> list[Cell]:
    return cells if view.confirms else unconfirmed(cells)


def _relative(view: View) -> bool:
    """Whether only differences in reverse KL can be known, not reverse KL itself."""
    known = lambda metric: any(f.reading(metric).value is not None for f in view.fits)
    return not known("reverse_kl") and known("elbo")


def _cells(fit: FitView, relative: bool) -> list[Cell]:
    second = measured(fit.reading("elbo")) if relative else _nats(fit, "reverse_kl")
    cells = [name_of(fit, about=True), _nats(fit, "forward_kl"), second]
    for metric, _, _, percent, _ in METRICS:
        special = SPECIAL.get(metric)
        cells.append(
            special(fit)
            if special
            else measured(fit.reading(metric), SCALES.get(metric), percent=percent)
        )
    return [*cells, _time(fit)]


def _nats(fit: FitView, metric: str) -> Cell:
    reading = fit.reading(metric)
    cell = measured(reading, SCALES.get(metric))
    if reading.value is None:
        return cell
    bits = formatting.pair(
        reading.value / formatting.LOG_2,
        None if reading.error is None else reading.error / formatting.LOG_2,
    )[0]
    below = (*cell.below, f"{bits} bits")
    return replace(cell, below=below)


def _covered(fit: FitView) -> Cell:
    reading = fit.reading("mode_coverage")
    entry = fit.data["metrics"].get("mode_coverage", {})
    shares = [part["value"] for label, part in entry.get("by", {}).items() if label != ALL]
    if reading.value is None or not shares:
        return missing(reading.reason or "no mode holds 1 % of the target")
    k = sum(share >= COVERED for share in shares)
    mark = "good" if k == len(shares) else "bad"
    return Cell(
        f"{k}/{len(shares)}", (), mark, "modes of at least 1 % of the target", k / len(shares)
    )


def _time(fit: FitView) -> Cell:
    if fit.given:
        return Cell("–", title="given: nothing was fitted")
    cost = fit.data["cost"]
    # A solver need not tell what compiling took; the run then has all of it.
    seconds = (cost["compile_seconds"] or 0.0) + cost["run_seconds"]
    return Cell(formatting.seconds(seconds), value=seconds)


SPECIAL = {"mode_coverage": _covered}
