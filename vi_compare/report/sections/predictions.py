"""What is predicted of the data: what each fit costs there, and whether the model fits at all."""

from __future__ import annotations

from vi_compare import formatting
from vi_compare.report.blocks import (
    Cell,
    Column,
    Note,
    Picture,
    Pictures,
    Row,
    Section,
    Table,
    measured,
    missing,
    name_of,
)
from vi_compare.report.figures.predictive import FORMS, predictive, ranks
from vi_compare.report.predicted import Finding, findings, judged
from vi_compare.report.view import FitView, Reading, View, shown


def section(view: View) -> Section | None:
    observed = view.target.get("observed") or {"sites": {}, "reasons": {}}
    if not observed["sites"] and not observed["reasons"]:
        return None
    notes = [_note(view, finding) for finding in findings(view)]
    left_out = [
        Note(f"Nothing is said of {formatting.quoted(shown(site))}: {why}.")
        for site, why in observed["reasons"].items()
    ]
    table = [_table(view)] if any(fit.data.get("predictions") for fit in view.fits) else []
    blocks = [*notes, *table, *_pictures(view, observed), *left_out]
    return Section("predictions", "Predictions of the data", _lead(view), blocks, order=85)


def _note(view: View, finding: Finding) -> Note:
    if not view.confirms:
        return Note(f"{finding.words} The reference that says so is in doubt itself.")
    if finding.fits:
        return Note(finding.words, mark="good", term="Fits")
    return Note(finding.words, mark="bad", term="Does not fit")


def _lead(view: View) -> str:
    """What the fits cost, in a sentence."""
    costs = [(fit, fit.reading("elpd_loss")) for fit in view.fits]
    said = [
        f"{formatting.quoted(fit.name)} costs {formatting.with_error(r.value, r.error)}"
        for fit, r in costs
        if r.value is not None
    ]
    lost = f"Of elpd on new data like these, {formatting.listed(said)} nats. " if said else ""
    return f"{lost}{_thinned(view)}".strip()


def _thinned(view: View) -> str:
    parts = [
        f"{formatting.count(site['looked_at'])} of {formatting.count(site['observations'])} "
        f"observations of {formatting.quoted(shown(name))} were looked at, taken by chance."
        for name, site in view.target["observed"]["sites"].items()
        if site["looked_at"] < site["observations"]
    ]
    return " ".join(["", *parts])


def _table(view: View) -> Table:
    columns = [
        Column.words("Draws of"),
        Column("elpd", "lost, nats"),
        Column("elpd", "of the target, nats"),
        Column("Observations", "too influential"),
        Column("p-value", "observations as predicted"),
    ]
    known = view.target["observed"]["reference"]
    own = [Cell("the reference"), Cell("–"), *_seen(view, known)] if known else []
    rows = [Row(own)] if own else []
    rows += [Row(_of_fit(view, fit), fit) for fit in view.fits if fit.data.get("predictions")]
    caption = (
        "Lost is what log predictive density falls short of the reference's, summed over the "
        "observations, where data come as the reference predicts them; 0 is perfect. elpd of the "
        "target is the log density that observations get from the rest: each is left out by "
        "importance weights (PSIS-LOO, of fits by ArviZ's loo_approximate_posterior), and ± counts "
        "that observations might have been others. Weights cannot leave out those that are too "
        "influential: fit without them to be sure."
    )
    return Table(columns, rows, "predictions", caption=caption)


def _of_fit(view: View, fit: FitView) -> list[Cell]:
    loss = measured(fit.reading("elpd_loss"), marked=view.confirms)
    return [name_of(fit), loss, *_seen(view, fit.data["predictions"])]


def _seen(view: View, known: dict) -> list[Cell]:
    """elpd, how many observations are too influential, and the smallest p-value."""
    elpd = known["elpd"]
    reading = Reading(elpd["value"], elpd["standard_error"], reason=elpd.get("reason", ""))
    if elpd["value"] is None:
        return [measured(reading), *[missing(reading.reason)] * 2]
    sites = known["sites"].values()
    above = sum(site["influential"] for site in sites)
    n = sum(view.target["observed"]["sites"][name]["looked_at"] for name in known["sites"])
    few = Cell(f"{formatting.count(above)} of {formatting.count(n)}", value=above)
    checks = {name: site["check"] for name, site in known["sites"].items()}
    made, level = judged(view, checks)
    if not made:
        reason = next(iter(checks.values())).get("reason", "")
        return [measured(reading), few, missing(reason)]
    p = min(check["p_value"] for check in made.values())
    mark = "bad" if p < level else "good"
    return [measured(reading), few, Cell(formatting.p_value(p), mark=mark, value=p)]


def _pictures(view: View, observed: dict, most: int = 3) -> list[Pictures]:
    """Of the reference, or without one of the first fit that predicts anything."""
    sites = list(observed["sites"].items())[:most]
    found = (_of_site(view, i, site, known["outcomes"]) for i, (site, known) in enumerate(sites))
    return [pictures for pictures in found if pictures]


def _of_site(view: View, i: int, site: str, outcomes: str) -> Pictures | None:
    form = FORMS.get(outcomes)
    groups = ("posterior_predictive", "observed_data", "loo_pit")
    made, seen, u = (view.predicted(group, site) for group in groups)
    if form is None or made is None or seen is None:
        return None
    pictures = [Picture(predictive(f"predictive-{i}", made, seen, site, form))]
    if u is None:
        return Pictures(pictures, form.how)
    pictures.append(Picture(ranks(f"predictive-ranks-{i}", u.values.reshape(-1), site)))
    beside = (
        "Beside it the ranks of the observations in what is predicted of each: flat is a model "
        "that fits. An S that starts above zero is data more spread than predicted."
    )
    return Pictures(pictures, f"{form.how} {beside}")
