"""What other distributions offer by entry points: it is there like the package's own, and what
is wrong with it is said in a line."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from test_report import published

from vi_compare import Settings, Study, catalogue
from vi_compare.errors import InputError
from vi_compare.evidence import About, Estimate, MetricKind
from vi_compare.report import sections
from vi_compare.report.view import View

GUIDE = '''
"""A guide of somebody else's."""


def build(model, rank: int = 1):
    """Somebody else's guide, of a rank."""
    if rank < 1:
        raise ValueError(f"rank must be at least 1, got {rank}")
    return model
'''

METRIC = '''
"""A metric of somebody else's."""

from vi_compare.evidence import ALL, About, Estimate, MetricKind

ABOUT = About(name="their metric", meaning="A mean.", kind=MetricKind.SIGNED, unit="nats")


def measure(evidence):
    """The mean of the first coordinate of the draws of a fit."""
    return {ALL: Estimate.mean(evidence.q.u[:, 0], "nats")}
'''

SECTION = '''
"""A section of somebody else's."""

from vi_compare.report.blocks import Section


def section(view):
    return Section("elsewhere", "From elsewhere", order=5)
'''


@pytest.fixture
def offer(tmp_path, monkeypatch):
    """offer(distribution, {(kind, name): source}): install it, here and in processes to come."""
    places = []

    def install(distribution: str, modules: dict[tuple[str, str], str]) -> None:
        place = tmp_path / distribution
        info = place / f"{distribution}-0.1.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 0.1\n"
        )
        points = []
        for (kind, name), source in modules.items():
            module = f"{distribution}_{kind}_{name}"
            (place / f"{module}.py").write_text(source, encoding="utf-8")
            monkeypatch.delitem(sys.modules, module, raising=False)
            points.append(f"[vi_compare.{kind}]\n{name} = {module}\n")
        (info / "entry_points.txt").write_text("\n".join(points))
        monkeypatch.syspath_prepend(str(place))
        places.append(str(place))
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(places))
        catalogue.look_again()

    yield install
    monkeypatch.undo()
    catalogue.look_again()


def command(*words: str, cwd: Path) -> subprocess.CompletedProcess:
    program = [sys.executable, "-m", "vi_compare", *words]
    return subprocess.run(program, cwd=cwd, capture_output=True, text=True, timeout=600)


def test_an_entry_of_another_distribution_is_like_one_of_our_own(offer):
    from vi_compare.cli import complete_fit
    from vi_compare.run.labels import parse_part

    offer("elsewhere", {("guides", "their_guide"): GUIDE, ("metrics", "their_metric"): METRIC})
    assert {"their-guide", "mvn"} <= set(catalogue.names("guides"))
    assert "their-metric" in catalogue.load_all("metrics")
    assert catalogue.entries("guides")["their-guide"].distribution == "elsewhere 0.1"
    assert "mvn/reverse-kl" in complete_fit("mvn/re")
    assert "their-guide" in complete_fit("the")
    part = parse_part("guides", "their-guide:3")
    assert part.full == "their-guide(rank=3)"
    assert part.build(len) is len
    with pytest.raises(InputError, match=r"^their-guide: rank must be at least 1, got 0$"):
        parse_part("guides", "their-guide:0").build("a model")


def test_nothing_of_another_distribution_is_imported_to_list_names(offer):
    offer("elsewhere", {("guides", "broken"): "1 / 0\n"})
    assert "broken" in catalogue.names("guides")


def test_a_section_of_another_distribution_stands_on_the_page(offer):
    offer("elsewhere", {("sections", "theirs"): SECTION})
    keys = {section.key for section in sections.all_of(View.of(published()))}
    assert "elsewhere" in keys


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("1 / 0\n", "cannot be imported: ZeroDivisionError: division by zero"),
        ("import no_such_module\n", "cannot be imported: ModuleNotFoundError: No module named"),
        ("def made(model):\n    pass\n", "defines no build"),
        ("def build(model, df):\n    pass\n", "option 'df' has no default"),
        ("def build(df=4.0):\n    pass\n", "does not take the model first"),
        ("def build(model:\n", "cannot be imported: SyntaxError"),
    ],
)
def test_what_cannot_be_used_is_told_in_a_line(offer, source, words):
    offer("elsewhere", {("guides", "broken"): source})
    with pytest.raises(InputError, match=words) as refused:
        catalogue.load("guides", "broken")
    assert "'broken' of elsewhere 0.1 (entry point elsewhere_guides_broken)" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_our_own_entry_wins_with_a_warning(offer):
    offer("elsewhere", {("guides", "mvn"): GUIDE})
    with pytest.warns(UserWarning, match="'mvn' of elsewhere 0.1 is left out: vi-compare has one"):
        module = catalogue.load("guides", "mvn")
    assert module.__name__ == "vi_compare.guides.mvn"


def test_of_two_others_with_one_name_none_wins(offer):
    offer("elsewhere", {("guides", "same"): GUIDE})
    offer("nowhere", {("guides", "same"): GUIDE})
    with pytest.raises(InputError, match=r"'same' is offered by (else|no)where 0\.1 and by"):
        catalogue.load("guides", "same")


def test_the_list_says_where_an_entry_comes_from(offer, tmp_path):
    kinds = {("guides", "theirs"): GUIDE, ("sections", "theirs"): SECTION}
    offer("elsewhere", kinds)
    done = command("list", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    words = " ".join(done.stdout.split())
    assert "theirs Somebody else's guide, of a rank. rank=1 of elsewhere 0.1" in words
    assert "theirs A section of somebody else's. of elsewhere 0.1" in words


MODEL = """
    import numpyro
    import numpyro.distributions as dist

    def model():
        numpyro.sample("x", dist.Normal(1.0, 2.0))

    def exact(key, n):
        return {"x": dist.Normal(1.0, 2.0).sample(key, (n,))}
"""
QUICK = ("run", "script.py", "--fit", "mvn/forward-kl", "--draws", "1000", "--restarts", "1")


def test_a_metric_and_a_section_of_others_are_in_a_run(offer, tmp_path):
    import json

    offer("elsewhere", {("metrics", "their_metric"): METRIC, ("sections", "theirs"): SECTION})
    (tmp_path / "script.py").write_text(textwrap.dedent(MODEL))
    done = command(*QUICK, "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    [fit] = json.loads((tmp_path / "out" / "results.json").read_text())["fits"]
    # 5 standard errors of two means of 1,000 draws, the fit's and its own
    assert abs(fit["metrics"]["their_metric"]["value"] - 1.0) < 0.5
    page = (tmp_path / "out" / "report.html").read_text()
    assert "their metric" in page[page.index('id="numbers"') :]
    assert "From elsewhere" in page


def test_a_broken_metric_stops_a_run_before_anything_is_fitted(offer, tmp_path):
    offer("elsewhere", {("metrics", "broken"): "import no_such_module\n"})
    (tmp_path / "script.py").write_text(textwrap.dedent(MODEL))
    done = command(*QUICK, cwd=tmp_path)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("vi-compare: the metric 'broken' of elsewhere 0.1 (entry point ")
    assert not (tmp_path / "reports").exists()


# --- faults of a plug-in, wherever it stands ------------------------------------------------


def test_a_file_of_our_own_is_named_by_its_place(tmp_path, monkeypatch):
    (tmp_path / "unready.py").write_text("ABOUT = 3\n\n\ndef measure(evidence):\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    entry = catalogue.Registered("metrics", "unready", "unready")
    with pytest.raises(InputError, match=r"^the metric 'unready' \(unready\.py\) has an ABOUT of"):
        entry.load()


@pytest.mark.parametrize(
    ("kind", "source", "words"),
    [
        ("guides", "def build(model):\n    return None\n", "builds a NoneType, which is none"),
        ("divergences", "def build(reference):\n    return 3\n", "builds a int, which is none"),
        ("solvers", "def build():\n    return 1 / 0\n\n\ndef suits(g, d):\n    return 1\n",
         r"broke: ZeroDivisionError: division by zero \(elsewhere_solvers_odd.py, line 2\)"),
    ],
)  # fmt: skip
def test_what_builds_something_else_is_told_in_a_line(offer, kind, source, words):
    from vi_compare.run.labels import parse_part

    offer("elsewhere", {(kind, "odd"): source})
    given = () if kind == "solvers" else (None,)
    with pytest.raises(InputError, match=words) as refused:
        parse_part(kind, "odd").build(*given)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("unit", "kind", "error"), [("", MetricKind.SIGNED, ValueError), ("nats", "signed", TypeError)]
)
def test_a_metric_of_no_known_unit_or_kind_cannot_be_written(unit, kind, error):
    with pytest.raises(error, match=r"unit is ''|kind is 'signed'"):
        About(name="mine", meaning="Mine.", kind=kind, unit=unit)


BROKEN_METRIC = METRIC.replace("return {ALL", "return 1 / 0  # {ALL")
ODD_METRIC = METRIC.replace("return {ALL", "return 3.0  # {ALL")
NAN_METRIC = METRIC.replace("evidence.q.u[:, 0]", "evidence.q.u[:, 0] * 0").replace(
    "return {ALL: ", "return {ALL: Estimate(float('nan'), 0.1, 'nats')}  # "
)


@pytest.fixture
def study():
    import numpyro
    import numpyro.distributions as dist

    def model():
        numpyro.sample("x", dist.Normal(0.0, 1.0))

    return Study(model, fits=["mvn/reverse-kl"], name="plugged")


def test_a_metric_that_breaks_costs_its_own_number_alone(offer, study):
    sources = {"breaks": BROKEN_METRIC, "odd": ODD_METRIC, "nan": NAN_METRIC}
    offer("elsewhere", {("metrics", name): source for name, source in sources.items()})
    with pytest.warns(UserWarning, match="the metric '(breaks|odd)' of elsewhere 0.1") as warned:
        (fit,) = study.run(Settings(draws=1_000, restarts=1)).fits
    assert len(warned) == 2
    found = {name: fit["metrics"][name] for name in sources}
    assert [entry["value"] for entry in found.values()] == [None] * 3
    assert (
        "ZeroDivisionError: division by zero (elsewhere_metrics_breaks.py, line"
        in (found["breaks"]["reason"])
    )
    assert "TypeError" in found["odd"]["reason"]
    assert found["nan"]["reason"] == "it came out as nan"
    assert fit["metrics"]["elbo"]["value"] is not None


SOLVER = '''
"""A solver that breaks."""


def suits(guide, divergence):
    return 1


def build():
    """It breaks."""
    return Breaks()


class Breaks:
    def solve(self, problem):
        return {what}
'''


@pytest.mark.parametrize(
    ("what", "words"),
    [("None", "TypeError: the solver returned a NoneType, and no Fit"),
     ("1 / 0", "ZeroDivisionError: division by zero (elsewhere_solvers_breaks.py, line 16)")],
)  # fmt: skip
def test_a_solver_that_breaks_costs_its_own_fit_alone(offer, study, what, words):
    offer("elsewhere", {("solvers", "breaks"): SOLVER.replace("{what}", what)})
    both = Study(study.model, fits=["mvn/reverse-kl/breaks", "mvn/reverse-kl"], name="plugged")
    with pytest.warns(UserWarning, match="mvn/reverse-kl/breaks: it broke"):
        broken, whole = both.run(Settings(draws=1_000, restarts=1)).fits
    assert broken["status"] == "failed"
    assert words in broken["message"]
    assert whole["status"] == "converged"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return 1 / 0", "ZeroDivisionError: division by zero (elsewhere_sections_odd.py, line"),
        ("return 'a text'", "section returned a str, and no Section"),
        ("return Section('scoreboard', 'Mine')", "the key 'scoreboard' is that of another section"),
        ("return Section('mine', 'Mine', order='95')", "order is '95'"),
    ],
)
def test_a_section_that_breaks_says_so_in_its_place(offer, body, words):
    # Its name comes after that of the section whose key it takes.
    source = SECTION.partition("    return")[0] + f"    {body}\n"
    offer("elsewhere", {("sections", "zodd"): source.replace("odd", "zodd")})
    with pytest.warns(UserWarning, match="the section 'zodd' of elsewhere 0.1"):
        made = {section.key: section for section in sections.all_of(View.of(published()))}
    assert "scoreboard" in made
    assert words.replace("odd", "zodd") in made["broken-zodd"].blocks[0].text


def test_a_number_that_is_not_finite_is_missing():
    assert Estimate(2.0, 0.1).or_missing() == Estimate(2.0, 0.1)
    assert Estimate(float("inf"), 0.1).or_missing().reason == "it came out as inf"


def test_the_list_tells_what_cannot_be_used_and_goes_on(offer, tmp_path):
    offer("elsewhere", {("guides", "odd"): "import no_such\n", ("sections", "theirs"): SECTION})
    done = command("list", cwd=tmp_path)
    assert done.returncode == 2
    assert "odd" in done.stdout
    assert "cannot be used: the guide 'odd' of elsewhere 0.1" in done.stdout
    assert "A section of somebody else's." in done.stdout
    assert "scoreboard" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_warning_of_ours_is_one_line_on_stderr(offer, tmp_path):
    offer("elsewhere", {("guides", "mvn"): GUIDE})
    done = command("list", cwd=tmp_path)
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert line.startswith("vi-compare: the guide 'mvn' of elsewhere 0.1 is left out")
