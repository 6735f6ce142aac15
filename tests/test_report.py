"""The report: a pure function of a Comparison that never fails, leaks or makes anything up."""

import base64
import copy
import gzip
import hashlib
import json
import re
from base64 import b64encode
from functools import cache
from html.parser import HTMLParser
from importlib.resources import files
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

from vi_compare import catalogue, formatting
from vi_compare.comparison import Comparison
from vi_compare.errors import InputError
from vi_compare.evidence import Draws, Estimate, Evidence, Modes
from vi_compare.metrics import abouts
from vi_compare.report import marks, palette, render, sections
from vi_compare.report.blocks import Section
from vi_compare.report.choosing import Said, rank
from vi_compare.report.curves import Penalty
from vi_compare.report.headline import answer
from vi_compare.report.page import _soft
from vi_compare.report.pairs import most_telling, uncoupled
from vi_compare.report.sections import all_numbers, cost, matrix, risk, scoreboard
from vi_compare.report.view import View
from vi_compare.run.facts import _metric, in_words, metrics
from vi_compare.verdict import judge

HOSTILE = """<script>alert("1")<!--'"&$x_1$"""
VOID = {"meta", "br", "wbr", "hr", "img", "input", "link"}


class Page(HTMLParser):
    """What a browser would make of the page: tags that nest, ids, addresses."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.ids, self.addresses, self.scripts, self.words = [], [], [], 0, []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        self.scripts += tag == "script"
        for name, value in attrs:
            assert not name.startswith("on"), f"<{tag} {name}> is a handler from outside"
            self.ids += [value] if name == "id" else []
            self.addresses += [value] if name in ("href", "src", "action", "data") else []

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if "script" not in self.open and "style" not in self.open:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def reading(value, error=0.01, **more):
    return {"value": value, "standard_error": error, "unit": "1", "n": 2000, **more}


def gone(reason):
    return {"value": None, "standard_error": None, "unit": "1", "n": None, "reason": reason}


def normal_fit(name, group, d, *, mean=0.0, word="Faithful", status="converged"):
    labels = [f"x[{i}]" for i in range(d)] if d > 1 else ["x"]
    by = lambda value: {label: {"value": value, "standard_error": 0.02} for label in labels}
    modes = {"the mode at x = 2": 1.5, "the mode at x = −2": 0.04}
    return {
        "name": name,
        "guide": "mvn",
        "divergence": None if status == "given" else "reverse-kl",
        "solver": "given" if status == "given" else "svi",
        "label": name,
        "group": f"fits/{group}",
        "seed": 0,
        "status": status,
        "message": "the mean loss fell by 0.0001 ± 0.0003 nats",
        "remedy": "",
        "params": {"loc": [mean] * d, "big": {"file": "fits.nc", "path": "p", "shape": [200, 100]}},
        "mixture": None,
        "chosen": None if status == "given" else 1,
        "restarts": []
        if status == "given"
        else [
            {"loss": 0.2 + 0.1 * r, "standard_error": 0.01, "basin": r, "status": "finished"}
            for r in range(2)
        ],
        "basins": []
        if status == "given"
        else [{"basin": b, "loss": 0.2, "standard_error": 0.01, "restarts": 1} for b in range(2)],
        "metrics": {
            "forward_kl": reading(2.687, 0.0295, unit="nats"),
            "reverse_kl": reading(0.58, 0.004, unit="nats"),
            "elbo": reading(-0.58, 0.004, unit="nats"),
            "missed_mass": reading(0.389, 0.004),
            "invented_mass": reading(0.06, 0.003),
            "mode_coverage": reading(
                0.04, 0.008, by={k: {"value": v, "standard_error": 0.01} for k, v in modes.items()}
            ),
            "coverage": reading(0.9755, 0.0014, by=by(0.9755)),
            "sd_ratio": reading(1.27, 0.004, by=by(1.27)),
            "mean_shift": reading(mean, 0.01, by=by(mean)),
            "khat": reading(0.2, 0.05),
            "ess": reading(0.9, 0.01),
        },
        "verdict": {
            "word": word,
            "also": [],
            "reasons": [f"{name} is what it is."],
            "use_for": "anything",
            "next_step": "nothing needs doing",
            "usable_after_reweighting": word != "Faithful",
            "vague": False,
            "mild": False,
        },
        "cost": {
            "compile_seconds": 1.5,
            "run_seconds": 0.5,
            "log_density_evaluations": 1000,
            "gradient_evaluations": 1000,
        },
        "settings": {},
    }


def synthetic(d=1, n=400, names=("mvn/reverse-kl", "published one"), *, losses=True):
    """Two normals on a two-mode target, nothing fitted."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, d)) * 0.5 + 2 * np.where(rng.random((n, 1)) < 0.5, 1, -1)
    log_p = -0.5 * (x**2).sum(axis=1)
    fits, parts = [], {"/": xr.Dataset(attrs={"run": "r", "schema": 1})}
    parts |= group("reference", x, {"log_p": log_p})
    for i, name in enumerate(names):
        q = rng.normal(size=(n, d)) + i
        fits.append(
            normal_fit(name, f"g{i}", d, mean=0.1 * i, status="given" if i % 2 else "converged")
        )
        parts[f"fits/g{i}"] = xr.Dataset()
        parts |= group(
            f"fits/g{i}", q, {"log_p": -(q**2).sum(axis=1), "log_q": -0.5 * (q**2).sum(axis=1)}
        )
        parts[f"fits/g{i}/at_reference"] = xr.Dataset(
            {"log_q": ("draw", -0.5 * (x**2).sum(axis=1) - 1)}
        )
        if losses and not i % 2:
            loss = np.exp(-np.arange(500) / 50)[None] + rng.normal(size=(3, 500)) * 0.01
            loss[2, 200:] = np.nan
            parts[f"fits/g{i}/optimisation"] = xr.Dataset({"loss": (("restart", "step"), loss)})
    if d == 1:
        grid = np.linspace(-5, 5, 301)
        peaks = np.logaddexp(*(-0.5 * ((grid - m) / 0.5) ** 2 for m in (-2, 2))) - np.log(
            np.sqrt(2 * np.pi)
        )
        log_q = np.stack([-0.5 * (grid - i) ** 2 - 0.9189 for i in range(len(names))])
        parts["curves"] = xr.Dataset(
            {"log_p": ("grid", peaks), "log_q": (("fit", "grid"), log_q)},
            coords={"u": ("grid", grid), "fit": list(names)},
        )
    results = {
        "schema": 1,
        "target": {
            "name": "two_peaks",
            "description": "Two peaks: which is kept?\n\nMore about it.",
            "dim": d,
            "sites": {"x": [] if d == 1 else [d]},
            "supports": {"x": "Real()"},
            "real": {"x": True},
            "normalised": True,
            "log_normalizer": {"value": 0.0, "standard_error": 0.0, "method": "exact"},
            "reference": {
                "source": "exact",
                "draws": n,
                "stein": {"largest_z": 1.2, "limit": 5.2, "tests": 6, "passed": True},
            },
            "modes": {
                "found": [
                    {
                        "name": f"the mode at x = {at}".replace("-", "−"),
                        "place": f"x = {at}".replace("-", "−"),
                        "location": [float(at)] * d,
                        "target": share,
                        "floor": share,
                        "n": n,
                        "fits": dict.fromkeys(names, other),
                    }
                    for at, share, other in ((2, 0.6, 0.9), (-2, 0.4, 0.1))
                ],
                "reason": "",
            },
        },
        "fits": fits,
        "published": [],
        "metrics": metrics(abouts()),
        "rules": [{"word": "Misses modes", "when": "mode_coverage < 0.1"}],
        "environment": {
            "versions": {"vi-compare": "0.1.0"},
            "device": "cpu",
            "platform": "cpu",
            "precision": "float64",
            "threads": 2,
            "seed": 0,
            "command": "vi-compare run two_peaks.py",
            "commit": None,
            "settings": {"draws": 2000, "restarts": 4, "reference": "exact", "effort": "normal"},
            "created": "",
        },
        "run": "r",
    }
    return Comparison(results, xr.DataTree.from_dict(parts))


def group(path, x, stats):
    value = x[None, :, 0] if x.shape[1] == 1 else x[None]
    dims = ("chain", "draw") if x.shape[1] == 1 else ("chain", "draw", "x_dim_0")
    return {
        f"{path}/posterior": xr.Dataset({"x": (dims, value)}),
        f"{path}/sample_stats": xr.Dataset(
            {k: (("chain", "draw"), v[None]) for k, v in stats.items()}
        ),
    }


def normals(means, scales, weights):
    """(sample(rng, n) -> (n, d), log_density(x) -> (n,)) of a mixture with diagonal scales."""
    means, scales, weights = (np.asarray(a, float) for a in (means, scales, weights))

    def sample(rng, n):
        which = rng.choice(len(weights), n, p=weights)
        return means[which] + scales[which] * rng.normal(size=(n, means.shape[1]))

    def log_density(x):
        z = (x[:, None] - means) / scales
        parts = -0.5 * (z**2).sum(-1) - np.log(scales * np.sqrt(2 * np.pi)).sum(-1)
        return np.logaddexp.reduce(parts + np.log(weights), axis=1)

    return sample, log_density


def gaussian_mixture(d, n=2000, fits=3):
    """Two peaks in d dimensions, measured and judged by the package itself.

    The fits take turns: one peak only, both peaks, one wide Gaussian over both.
    """
    rng = np.random.default_rng(d)
    ones = np.ones(d)
    at = 2.0 * np.concatenate([[1.0], np.full(min(d, 3) - 1, 0.8), np.zeros(max(d - 3, 0))])
    target = normals([at, -at], [0.6 * ones] * 2, [0.6, 0.4])
    guides = [
        ("mvn/reverse-kl", normals([at], [0.58 * ones], [1.0])),
        ("mixture:2/forward-kl", normals([at, -at], [0.61 * ones] * 2, [0.6, 0.4])),
        ("mvn/forward-kl", normals([0.2 * at], [np.sqrt(0.36 + 0.96 * at**2)], [1.0])),
    ]
    names = [guides[i % 3][0] + (f"/svi:steps={i}" if i > 2 else "") for i in range(fits)]
    comparison = synthetic(d=d, n=n, names=tuple(names))
    reference, floor = (target[0](rng, n) for _ in range(2))
    parts = {"/": xr.Dataset(attrs={"run": "r", "schema": 1})}
    parts |= group("reference", reference, {"log_p": target[1](reference)})
    modes = comparison.results["target"]["modes"]["found"]
    for m, (mode, place) in enumerate(zip(modes, (at, -at), strict=True)):
        mode |= {"name": f"mode {m + 1}", "place": f"mode {m + 1}"}
        mode |= {"location": place.tolist(), "fits": {}}
    again = Draws(floor, _sites(floor))

    @cache
    def measured(guide: int):
        """Draws of the guide and of the target, shares of the modes, scores, verdict."""
        sample, log_q = guides[guide][1]
        x = sample(rng, n)
        q = Draws(x, _sites(x), target[1](x), log_q(x))
        p = Draws(reference, _sites(reference), target[1](reference), log_q(reference))
        shares = [np.array([(y[:, 0] > 0).mean(), (y[:, 0] <= 0).mean()]) for y in (reference, x)]
        found = Modes(("mode 1", "mode 2"), shares[0], shares[0], shares[1], n)
        evidence = Evidence(q, p, again, Estimate(0.0, 0.0, "nats"), found)
        scores = {k: m.measure(evidence) for k, m in catalogue.load_all("metrics").items()}
        scores = {k.replace("-", "_"): v for k, v in scores.items()}
        return q, p, shares[1], scores, judge("converged", "", scores, abouts=abouts())

    for i, (name, fit) in enumerate(zip(names, comparison.fits, strict=True)):
        label, (q, p, shares, scores, verdict) = guides[i % 3][0], measured(i % 3)
        for m, mode in enumerate(modes):
            mode["fits"][name] = float(shares[m])
        fit |= {"guide": label.split("/")[0], "divergence": label.split("/")[1], "solver": "svi"}
        fit |= {"status": "converged", "metrics": {k: _metric(v) for k, v in scores.items()}}
        fit["verdict"] = in_words(verdict)
        parts |= group(f"fits/g{i}", q.u, {"log_p": q.log_p, "log_q": q.log_q})
        parts[f"fits/g{i}/at_reference"] = xr.Dataset({"log_q": ("draw", p.log_q)})
        loss = np.exp(-np.arange(300) / 50)[None] + rng.normal(size=(3, 300)) * 0.02
        parts[f"fits/g{i}/optimisation"] = xr.Dataset({"loss": (("restart", "step"), loss)})
    return Comparison(comparison.results, xr.DataTree.from_dict(parts))


def _sites(x):
    return {"x": x if x.shape[1] > 1 else x[:, 0]}


def published_row(fit, quantity, published, ours, error, result, reason=""):
    difference = None if ours is None else (float(published) - ours) / error
    return {
        "fit": fit,
        "quantity": quantity,
        "source": "a post",
        "published": published,
        "ours": ours,
        "standard_error": error,
        "difference_in_standard_errors": difference,
        "result": result,
        "reason": reason,
    }


def fail(fit):
    """Turn the entry of a fit into that of one that failed."""
    fit |= {"status": "failed", "message": "every restart diverged at site 'x'", "params": None}
    fit |= {"metrics": {}, "chosen": None, "basins": []}
    fit["restarts"] = [{"loss": None, "standard_error": None, "basin": None, "status": "diverged"}]
    fit["verdict"] |= {"word": "Failed", "usable_after_reweighting": False}


def without_draws(comparison, name):
    """The comparison with the groups of the fit of this group name emptied."""
    kept = {path: node.to_dataset() for path, node in comparison.draws.subtree_with_keys}
    kept = {p: v for p, v in kept.items() if not p.startswith(f"fits/{name}/")}
    return Comparison(comparison.results, xr.DataTree.from_dict(kept))


def failed():
    comparison = without_draws(synthetic(), "g0")
    fail(comparison.fits[0])
    log_q = comparison.draws["curves"]["log_q"].values
    log_q[0] = np.nan
    return comparison


def all_failed():
    comparison = without_draws(without_draws(synthetic(d=2), "g0"), "g1")
    for fit in comparison.fits:
        fail(fit)
    return comparison


def no_reference():
    comparison = synthetic(d=3)
    del comparison.draws["reference"]
    target = comparison.results["target"]
    target["reference"] = {"source": "none", "draws": 0}
    target["modes"] = {
        "found": None,
        "reason": "there are no draws of the target to find modes from",
    }
    target |= {"normalised": False, "log_normalizer": None}
    for i, fit in enumerate(comparison.fits):
        del comparison.draws[f"fits/g{i}"]["at_reference"]
        for metric in set(fit["metrics"]) - {"elbo", "khat", "ess"}:
            fit["metrics"][metric] = gone(f"no {metric} without draws of the target")
        fit["verdict"]["word"] = "Unverified"
    return comparison


def published():
    comparison = synthetic()
    comparison.fits[1]["verdict"]["word"] = "Misses modes"
    comparison.results["published"] = [
        published_row("mvn/reverse-kl", "means[0]", "0.10", 0.1, 0.01, "reproduced"),
        published_row("mvn/reverse-kl", "elbo", "1.0", None, None, "not available", "no log Z"),
        published_row("published one", "forward_kl", "0.0012", 2.687, 0.0295, "not reproduced"),
    ]
    return comparison


def hostile():
    comparison = synthetic(names=(HOSTILE, "plain"))
    results = comparison.results
    results["target"] |= {"name": HOSTILE, "description": f"{HOSTILE}\n\n</script>{HOSTILE}"}
    results["target"] |= {"sites": {HOSTILE: []}, "supports": {HOSTILE: "Real()"}}
    results["target"]["real"] = {HOSTILE: True}
    results["target"]["modes"]["found"][0]["name"] = HOSTILE
    results["environment"]["command"] = f"</script><!--{HOSTILE}\u2028"
    results["fits"][0]["message"] = HOSTILE
    results["fits"][0]["verdict"]["reasons"] = [HOSTILE]
    results["fits"][0]["metrics"]["khat"] = gone(HOSTILE)
    results["published"] = [
        published_row(HOSTILE, "reverse_kl", "1.0", 0.58, 0.004, "not reproduced")
    ]
    for path in ("reference", "fits/g0", "fits/g1"):
        posterior = comparison.draws[f"{path}/posterior"].to_dataset()
        comparison.draws[f"{path}/posterior"] = xr.DataTree(posterior.rename({"x": HOSTILE}))
    return comparison


CASES = {
    "one dimension": synthetic,
    "ten dimensions": lambda: synthetic(d=10),
    "one fit": lambda: synthetic(names=("published one",)),
    "nine fits": lambda: synthetic(names=tuple(f"fit {i}" for i in range(9))),
    "no losses": lambda: synthetic(losses=False),
    "a failed fit": failed,
    "all failed": all_failed,
    "no reference": no_reference,
    "published": published,
    "hostile names": hostile,
    "two peaks in the plane": lambda: gaussian_mixture(2),
    "two peaks in ten dimensions": lambda: gaussian_mixture(10),
}


@pytest.fixture(scope="module", params=CASES, ids=str)
def case(request):
    comparison = CASES[request.param]()
    before = copy.deepcopy(comparison.results)
    text = render(comparison)
    assert comparison.results == before, "rendering changed its input"
    return comparison, text


def test_page_is_sound(case):
    _, text = case
    page = Page(text)
    assert not page.open
    assert len(page.ids) == len(set(page.ids))
    # Every address is a place on this page that exists: nothing is fetched.
    assert {a[1:] for a in page.addresses} <= set(page.ids)
    assert all(a.startswith("#") for a in page.addresses)
    assert set(re.findall(r"url\((.*?)\)", text)) <= {f"#{i}" for i in page.ids}
    assert page.scripts == 2
    assert len(text.encode()) < 2_000_000


def test_figures_take_their_colours_from_the_page(case):
    _, text = case
    for figure in re.findall(r'<svg class="figure".*?</svg>', text, re.S):
        inside = " ".join(re.findall(r"<[^>]*>", figure))
        assert not re.search(r"#[0-9a-fA-F]{3,8}[;\"]", inside)
        assert "<title" in figure
        assert "<desc" in figure
        assert 'role="img"' in figure


def test_embedded_results_are_the_results(case):
    comparison, text = case
    assert unpacked(text) == comparison.results


def unpacked(text):
    inside = re.search(r'id="results">(.*?)</script>', text, re.S)
    return json.loads(gzip.decompress(base64.b64decode(inside[1])))


def test_every_reason_is_on_the_page(case):
    comparison, text = case
    words = Page(text).text
    shown = (
        "forward_kl",
        "missed_mass",
        "invented_mass",
        "mode_coverage",
        "coverage",
        "khat",
        "ess",
    )
    for fit in comparison.fits:
        for metric in shown:
            entry = fit["metrics"].get(metric, {"value": None, "reason": fit["message"]})
            if entry["value"] is None:
                assert "not available" in words
                assert " ".join(entry["reason"].split()) in words
        for reason in fit["verdict"]["reasons"]:
            assert " ".join(reason.split()) in words


def test_same_page_twice_and_nothing_global_left_behind():
    import matplotlib
    import matplotlib.pyplot as plt

    first = render(synthetic())
    before = dict(matplotlib.rcParams), plt.get_fignums()
    assert render(synthetic()) == first
    assert (dict(matplotlib.rcParams), plt.get_fignums()) == before


def test_hostile_text_stays_text():
    text = render(hostile())
    assert "<script>alert" not in text
    assert HOSTILE in Page(text).text
    scripts = re.findall(r"<script.*?</script>", text, re.S)
    assert not any("\u2028" in script or "<!--" in script for script in scripts)


def test_answer_says_that_a_published_figure_is_false_and_why():
    assert answer(View.of(published())).bold == (
        "The published forward KL is false: at the published parameters it is 2.69 ± 0.03 nats, "
        "not 0.0012, and they leave out the mode at x = −2 (40.0 % of the target)."
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("Faithful", "Faithful"), "Both fits are faithful."),
        (("Faithful", "Too sure"), "Of two fits only mvn/reverse-kl is faithful."),
        (("Too sure", "Too sure"), "Neither of the two fits is faithful."),
    ],
)
def test_answer_follows_the_verdicts(words, sentence):
    comparison = synthetic(names=("mvn/reverse-kl", "b"))
    for fit, word in zip(comparison.fits, words, strict=True):
        fit["verdict"]["word"] = word
    assert answer(View.of(comparison)).bold == sentence


def test_without_normaliser_elbo_stands_for_reverse_kl():
    view = View.of(no_reference())
    heads = [column.head for column in scoreboard.section(view).blocks[0].columns]
    assert "ELBO" in heads
    assert "Reverse KL" not in heads
    assert answer(view).bold.startswith("Neither of the two fits can be confirmed")


def test_what_a_solver_did_not_count_reads_not_recorded():
    made = synthetic()
    made.results["fits"][0]["cost"] |= {
        "compile_seconds": None, "log_density_evaluations": None, "gradient_evaluations": 0,
    }  # fmt: skip
    view = View.of(made)
    first = cost.section(view).blocks[-1].rows[0].cells
    assert [cell.text for cell in first[1:5]] == ["not recorded", "0.50", "not recorded", "0"]
    assert "nan" not in render(made).lower().split()
    assert scoreboard.section(view).blocks[0].rows[0].cells[-1].value == 0.5


def test_overlays_show_six_of_nine_fits():
    view = View.of(CASES["nine fits"]())
    assert len(view.drawn) == 6
    assert view.left_out == "Three more stand in the tables only."


def test_penalty_is_nonnegative_and_keeps_the_total():
    x = np.linspace(-12, 12, 4001)
    log_p, log_q = -0.5 * x**2 - 0.918939, -0.5 * ((x - 1) / 2) ** 2 - 0.918939 - np.log(2)
    penalty = Penalty.of(log_p, log_q)
    # KL(N(0, 1) ‖ N(1, 2)) = log 2 + (1 + 1) / 8 − 1/2; trapezoids of this width are exact to 1e-6.
    exact = np.log(2) + 0.25 - 0.5
    assert (penalty.paid >= 0).all()
    assert np.trapezoid(penalty.paid, x) == pytest.approx(exact, abs=1e-5)
    assert np.trapezoid(penalty.usual, x) == pytest.approx(exact, abs=1e-5)


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (2.68689, 0.02952, "2.69 ± 0.03"),
        (0.351818, 0.00096, "0.3518 ± 0.0010"),
        (-1.6379, 0.031, "−1.64 ± 0.03"),
        (-0.0001, 0.01, "0.000 ± 0.010"),
        (123456.0, 2300.0, "123 000 ± 2 000"),
        (3.0, None, "3.00"),
        (4e-11, None, "4.00 × 10⁻¹¹"),
        (0.0, 0.0, "0"),
    ],
)
def test_numbers_show_what_their_error_allows(value, error, text):
    assert formatting.with_error(value, error) == text


def test_diagonal_check_names_who_was_beaten():
    comparison = gaussian_mixture(2)
    section = lambda: matrix.section(View.of(comparison)).blocks[1]
    assert section().mark == "good"
    assert "mvn/reverse-kl on Reverse KL" in section().text
    # The forward fit of the same guide is now said to be the better reverse fit.
    comparison.fits[2]["metrics"]["reverse_kl"] |= {"value": 0.1, "standard_error": 0.01}
    assert section().mark == "bad"
    assert "is beaten by mvn/forward-kl (0.100 ± 0.010)" in section().text
    for fit in comparison.fits:
        fit["divergence"] = None
    assert section().term == "No diagonal check."


def test_advice_ranks_nothing_within_error():
    comparison = synthetic()
    rows = risk.section(View.of(comparison)).blocks[1].rows
    assert {row.cells[2].text for row in rows if not row.cells[2].reason} == {
        "no difference within error"
    }
    comparison.fits[1]["metrics"]["invented_mass"] |= {"value": 0.3, "standard_error": 0.003}
    rows = {row.cells[0].text: row for row in risk.section(View.of(comparison)).blocks[1].rows}
    row = rows["generate plausible draws, one at a time"]
    assert [cell.text for cell in row.cells[2:]] == ["mvn/reverse-kl", "published one"]
    assert row.cells[3].fits[0][1] == "✗ 30.0 ± 0.3 % invented"


def test_an_empty_tail_is_not_the_safest_because_its_logarithm_is_uncertain():
    comparison = synthetic()
    for fit, tail in zip(comparison.fits, [(0.0, 0.07), (0.82, 0.18)], strict=False):
        found = {"value": tail[0], "standard_error": tail[1]}
        fit["metrics"]["tail_mass"] = fit["metrics"]["invented_mass"] | found
    rows = {row.cells[0].text: row for row in risk.section(View.of(comparison)).blocks[1].rows}
    safest = rows["give the probability of an extreme value"].cells[2]
    assert safest.text == comparison.fits[1]["name"]


def test_most_telling_pair_is_the_one_that_went_wrong():
    rng = np.random.default_rng(6)
    view = View.of(gaussian_mixture(10))
    p = dict(view.reference)
    shared = rng.normal(size=2000)
    p["x[7]"], p["x[9]"] = shared, shared + 0.1 * rng.normal(size=2000)
    # Seen one by one these two are right in every fit; only together they are not.
    assert most_telling(p, view.fits, 1) == [("x[7]", "x[9]")]
    assert uncoupled(p, view.fits) == [("x[7]", "x[9]")]


def test_a_name_breaks_after_a_slash_and_not_at_its_hyphen():
    assert _soft("mvn/reverse-kl") == 'mvn/<wbr><span class="whole">reverse-kl</span>'
    long = "a-name-that-no-line-of-a-phone-would-hold"
    assert _soft(long) == long
    assert "<b>" not in _soft("<b>-<b>")


def test_sections_stand_in_the_order_that_they_ask_for():
    orders = [section.order for section in sections.all_of(View.of(published()))]
    assert orders == sorted(set(orders)), "two sections claim one place"


def test_a_section_without_a_place_comes_before_what_is_looked_up(monkeypatch):
    own = SimpleNamespace(section=lambda view: Section("own", "My section"))
    entries = catalogue.entries
    more = lambda kind: {"own": SimpleNamespace(load=lambda: own)} if kind == "sections" else {}
    monkeypatch.setattr(catalogue, "entries", lambda kind: dict(entries(kind)) | more(kind))
    keys = [section.key for section in sections.all_of(View.of(published()))]
    after = keys[keys.index("own") + 1 :]
    assert after == ["numbers", "information", "reproduce"]


def test_sections_are_found_by_their_place():
    found = catalogue.entries("sections")
    assert len(found) == len(list(files("vi_compare.report.sections").iterdir())) - 1 - sum(
        p.name == "__pycache__" for p in files("vi_compare.report.sections").iterdir()
    )


def test_every_alternative_text_states_numbers(case):
    _, text = case
    for description in re.findall(r"<desc[^>]*>(.*?)</desc>", text, re.S):
        assert re.search(r"\d", description), description
    assert text.count('<svg class="figure"') == text.count("<desc")
    assert text.count("How to read.") == text.count('<div class="pictures')


def test_every_colour_of_a_figure_is_a_variable_of_the_style_sheet():
    sheet = (files("vi_compare.report") / "style.css").read_text(encoding="utf-8")
    for colour in palette.Colour:
        assert f"  {palette.variable(colour)}: light-dark(" in sheet, colour
    assert palette.variable(palette.Style(300).colour) == "--f300"
    assert palette.variable("#123456") is None


def test_fits_that_share_a_colour_differ_in_dashes_and_marker():
    looks = [palette.Style(i) for i in range(100)]
    assert len({(one.light, one.dashes, one.marker) for one in looks}) == len(looks)


def test_script_is_small_and_plain():
    script = (files("vi_compare.report") / "script.js").read_bytes()
    assert len(script) < 4000
    assert b"</" not in script


# --- a metric that this version does not have ----------------------------------------------

NEW = {
    "name": "wobble", "meaning": "How much the fit wobbles, per wink.", "unit": "sd",
    "perfect": 0.5, "good": 0.1, "near": 0.2, "percent": False, "heading": "Wobble", "below": "sd",
    "above_floor": False, "counts_from": 0.0, "least": 1e-300, "trained_by": [],
}  # fmt: skip


def with_new_metric(kind, values, **changed):
    comparison = synthetic(names=("a", "b"))
    comparison.results["metrics"]["wobble"] = NEW | {"kind": kind} | changed
    for fit, value in zip(comparison.fits, values, strict=True):
        fit["metrics"]["wobble"] = reading(value, 0.001, unit="sd")
    return comparison


def row_of(comparison, metric):
    """The row of a metric in the table of all numbers, as texts."""
    table = all_numbers.section(View.of(comparison)).blocks[0]
    [row] = [row for row in table.rows if row.cells[0].text.startswith(metric)]
    return row.cells


def test_a_new_metric_is_on_the_page_without_another_edit():
    comparison = with_new_metric("signed", (0.55, 0.8))
    name, best, *numbers = row_of(comparison, "wobble")
    assert (name.text, name.below) == ("wobble, sd", (NEW["meaning"],))
    assert best.text == "nearest to 0.5"
    assert [(cell.text, cell.mark) for cell in numbers] == [("0.5500", "good"), ("0.8000", "bad")]
    text = Page(render(comparison)).text
    assert NEW["meaning"] in text
    assert "wobble ✓ within 0.1 of 0.5, ! within 0.2" in text


@pytest.mark.parametrize(
    ("kind", "values", "best", "limits"),
    [
        ("smaller", (0.3, 0.15), "b", "✓ up to 0.1 sd (0.5 is perfect), ! up to 0.2"),
        ("larger", (0.3, 0.15), "a", "✓ from 0.1 sd (0.5 is perfect), ! from 0.2"),
        ("signed", (0.3, 0.75), "a", "✓ within 0.1 of 0.5, ! within 0.2"),
        ("ratio", (1.5, 0.4), "a", "✓ within a factor of 0.1, ! within 0.2"),
    ],
)
def test_fits_are_ranked_by_a_new_metric_as_its_kind_says(kind, values, best, limits):
    view = View.of(with_new_metric(kind, values))
    assert [runner.fit.name for runner in rank(view.fits, Said("wobble", "")).safest] == [best]
    assert marks.limits(view.abouts["wobble"]) == limits


def test_shares_of_a_new_metric_are_shown_in_per_cent():
    comparison = with_new_metric("smaller", (0.05, 0.3), unit="1", percent=True, perfect=0.01)
    _, best, *numbers = row_of(comparison, "wobble")
    assert [cell.text for cell in numbers] == ["5.00 %", "30.00 %"]
    view = View.of(comparison)
    assert best.text == "smallest"
    assert marks.limits(view.abouts["wobble"]) == "✓ up to 10 % (1 % is perfect), ! up to 20 %"


def test_without_a_believable_reference_no_number_gets_a_tick():
    comparison = with_new_metric("signed", (0.55, 0.8))
    comparison.results["target"]["reference"]["doubts"] = [
        {"kind": "its chains disagree", "words": "its chains disagree: R-hat 1.2"}
    ]
    assert [cell.mark for cell in row_of(comparison, "wobble")[2:]] == ["", "bad"]


def test_results_that_do_not_say_what_their_metrics_mean_are_refused():
    comparison = synthetic()
    del comparison.results["metrics"]
    with pytest.raises(InputError, match="run it again"):
        render(comparison)


def test_only_the_scripts_of_the_page_may_run(case):
    _, text = case
    [policy] = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    sources = dict(part.split(" ", 1) for part in policy.replace("&#39;", "'").split("; "))
    bodies = re.findall(r"<script>(.*?)</script>", text, re.S)
    hashes = [b64encode(hashlib.sha256(body.encode()).digest()).decode() for body in bodies]
    assert bodies
    assert sources["script-src"].split() == [f"'sha256-{one}'" for one in hashes]
