"""The section on the path between reverse and forward KL, from paths that nobody computed."""

import base64
import copy
import gzip
import json
import re

import numpy as np
import pytest
from test_page_in_browser import CHROMIUM, DESK, PHONE, browser  # noqa: F401 (a fixture)
from test_report import HOSTILE, Page, synthetic

from vi_compare import catalogue
from vi_compare.comparison import Comparison
from vi_compare.metrics import abouts
from vi_compare.report import render
from vi_compare.report.path import Path
from vi_compare.report.path.words import alpha, finding
from vi_compare.report.sections import path as section_of_paths
from vi_compare.report.view import View

JUMP = 0.31


def entry(value, error=0.0):
    return {"value": value, "standard_error": error}


def point(a, at, sd, best, grid, *, margins=1, error=0.0):
    """Two components at −at and at; which modes they hold follows from `at`."""
    means = np.array([-at, at])
    density = sum(0.5 * np.exp(-(((grid - m) / sd) ** 2) / 2) / sd / 2.5066 for m in means)
    return {
        "alpha": a,
        "best": best,
        "value": entry(0.4 + 0.01 * a, error),
        "forward_kl": entry(2.0 / (1 + at) - 0.1 * a, error),
        "reverse_kl": entry(0.3 + 0.2 * at + 0.1 * a, error),
        "missed_mass": entry(0.3, error),
        "invented_mass": entry(0.05, error),
        "basins": [entry(1 - at / 4, error), entry(at / 4, error)],
        "weights": [0.5, 0.5],
        "means": [[float(m)] * margins for m in means],
        "sds": [[sd] * margins] * 2,
        "densities": [density.tolist()] * margins,
    }


def path_of(*, branches=2, points=26, grid=50, margins=1, error=0.0, labels=("x", "y", "z")):
    """Branch A holds one of two modes and ends at α = 0.5, B holds both and begins at −0.2;
    others hold what B does."""
    alphas = [round(float(a), 4) for a in np.linspace(-0.5, 2, points)]
    x = np.linspace(-4, 4, grid)
    made = []
    for k in range(branches):
        low, high = ((-0.5, 0.5), (-0.2, 2.0))[min(k, 1)]
        best = lambda a, k=k: k == (0 if a <= JUMP else 1)
        at, inside = (0.1 if k == 0 else 1.5 + 0.1 * k), [a for a in alphas if low <= a <= high]
        look = {"margins": margins, "error": error}
        made.append(
            {
                "name": chr(ord("A") + k),
                "images": 1 + k % 2,
                "begin": {"alpha": low, "error": 0.001, "how": "lost"} if k else {
                    "alpha": low, "error": None, "how": "edge"
                },
                "end": {"alpha": high, "error": None, "how": "edge"} if k else {
                    "alpha": high, "error": 0.0003, "how": "lost"
                },
                "points": [point(a, at, 0.4 + 0.05 * a, best(a), x, **look) for a in inside],
            }
        )  # fmt: skip
    target = np.exp(-((abs(x) - 1.5) ** 2)).tolist()
    return {
        "schema": 1,
        "run": "r",
        "guide": "mixture:2",
        "command": "vi-compare path two_peaks.py --guide mixture:2 --alpha -0.5:2",
        "method": "monte carlo" if error else "quadrature",
        "nodes": None if error else 4001,
        "restarts": 16,
        "seconds": 7.1,
        "alphas": alphas,
        "margins": [
            {"label": label, "grid": x.tolist(), "target": target} for label in labels[:margins]
        ],
        "metrics": {name: about.plain() for name, about in abouts().items()},
        "modes": ["x = 2", "x = −2"],
        "target_basins": [0.6, 0.4],
        "branches": made,
        "transitions": [
            {"alpha": JUMP, "standard_error": error or 1e-6, "from": "A", "to": "B", "jump": 3.1}
        ],
    }


def with_path(path, comparison=None):
    comparison = comparison or synthetic()
    return Comparison(comparison.results, comparison.draws, path)


def alone(comparison):
    """A page with this section only: the others take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        entries = catalogue.entries
        only = lambda kind: {
            k: e for k, e in entries(kind).items() if kind != "sections" or k == "path"
        }
        patch.setattr(catalogue, "entries", only)
        return render(comparison)


def section(path):
    found = section_of_paths.section(View.of(with_path(path)))
    assert found is not None
    return found


def words(path):
    made = Path.of(path)
    assert made is not None
    return finding(made).replace("\u00a0", " ")


def smooth():
    path = path_of(branches=2)
    del path["branches"][0]
    for p in path["branches"][0]["points"]:
        p["best"] = True
    return path | {"transitions": []}


def smooth_at_one_alpha():
    path = smooth()
    only = path["branches"][0]["points"][5:6]
    path["branches"][0] |= {"points": only, "begin": None, "end": None}
    return path | {"alphas": [only[0]["alpha"]]}


def no_log_z():
    """Without log Z neither KL is known, only the masses are."""
    path = path_of(error=0.01)
    for p in (p for b in path["branches"] for p in b["points"]):
        p["forward_kl"] = p["reverse_kl"] = p["value"] = entry(None, None)
    return path


def bare():
    """A guide without components on a target without margins or modes; numbers missing."""
    path = path_of() | {"margins": [], "modes": [], "target_basins": [], "nodes": None}
    for p in (p for b in path["branches"] for p in b["points"]):
        p |= {"weights": None, "means": None, "sds": None, "densities": [], "basins": []}
        p |= dict.fromkeys(("value", "forward_kl", "reverse_kl"), entry(None, None))
        p |= dict.fromkeys(("missed_mass", "invented_mass"), entry(None, None))
    path["transitions"][0] |= {"jump": None, "standard_error": None}
    for branch in path["branches"]:
        branch["end"] = {"alpha": None, "error": None, "how": "lost"}
    return path


def holes():
    """Numbers that do not exist here and there."""
    path = path_of(error=0.02)
    for p in path["branches"][0]["points"][:4]:
        p["forward_kl"] = entry(None, None)
        p["basins"][0] = entry(None, None)
        p["densities"][0][:5] = [None] * 5
    for p in path["branches"][1]["points"][::2]:
        p["best"] = False
    return path


def nowhere_best():
    path = path_of()
    for p in (p for b in path["branches"] for p in b["points"]):
        p["best"] = False
    return path | {"transitions": []}


def evil():
    path = path_of(labels=(HOSTILE,))
    path |= {"guide": HOSTILE * 50, "modes": [HOSTILE, HOSTILE], "command": f"</script>{HOSTILE}"}
    path["method"] = HOSTILE
    path["branches"][0]["name"] = path["transitions"][0]["from"] = HOSTILE
    return path


CASES = {
    "a jump": path_of,
    "no jump": smooth,
    "one α": smooth_at_one_alpha,
    "monte carlo": lambda: path_of(error=0.05, margins=2),
    "no log Z": no_log_z,
    "bare": bare,
    "holes": holes,
    "nowhere best": nowhere_best,
    "hostile": evil,
}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return request.param, alone(with_path(CASES[request.param]()))


def test_page_with_a_path_is_sound(case):
    _, text = case
    page = Page(text)
    assert not page.open
    assert len(page.ids) == len(set(page.ids))
    assert {a[1:] for a in page.addresses} <= set(page.ids)
    assert page.scripts == 4  # results, path, and a script for each
    inside = text[text.index('<section id="path"') :]
    inside = inside[: inside.index("</section>")]
    assert inside.count("How to read.") == 1
    assert not re.search(r"\b(nan|None|inf)\b", Page(inside).text)
    for description in re.findall(r"<desc[^>]*>(.*?)</desc>", inside, re.S):
        assert re.search(r"\d", description)
    assert "nan" not in "".join(re.findall(r' (?:d|data-from|data-to)="([^"]*)"', inside)).lower()
    style = {*re.findall(r"#[0-9a-f]{6}\b", inside)}
    assert not style, "a colour that the page cannot change"


def test_without_a_path_nothing_is_shown():
    text = alone(synthetic())
    assert 'id="path"' not in text
    assert "path-alpha" not in text
    assert Page(text).scripts == 2


@pytest.mark.parametrize("path", [{"schema": 2}, path_of() | {"branches": []}])
def test_a_path_that_says_nothing_is_left_out(path):
    assert section_of_paths.section(View.of(with_path(path))) is None


def test_same_path_gives_the_same_page():
    assert alone(with_path(path_of())) == alone(with_path(copy.deepcopy(path_of())))


def test_finding_comes_first():
    said = words(path_of())
    assert said.startswith(
        "From α = 0.31 on the best mixture:2 covers both modes; below, it leaves out x = −2 "
        "(40.0 % of the target). There the optimum jumps by 3.1 nats (symmetrised KL), from "
        "branch A to B."
    )
    assert "Up to two optima (three with mirror images) were found side by side" in said
    assert "between α = −0.2 and 0.5" in said
    assert "A ends at α = 0.5000 ± 0.0003" in said
    assert "Between α = −0.2 and 0.5 both exist, and a fit may end in either." in said
    assert section(path_of()).lead.replace("\u00a0", " ") == said


def test_a_path_without_a_jump_says_so():
    said = words(smooth())
    assert "without a jump" in said
    assert "No other optimum was found" in said
    assert "forward KL goes from" in said


def test_what_holds_beside_a_jump_only_is_not_said_of_the_whole_side():
    path = path_of()
    path["branches"][1]["points"][-1]["basins"] = [entry(1.0), entry(0.0)]
    said = words(path)
    assert said.startswith("At α = 0.31 the best mixture:2 jumps by 3.1 nats")
    assert "just below it leaves out x = −2 (40.0 % of the target), just above it covers" in said


def test_what_is_unknown_on_one_side_of_a_jump_is_not_said():
    path = path_of()
    for p in path["branches"][0]["points"]:
        p["basins"][0] = entry(None, None)
    assert "its forward KL goes from" in words(path) or "its mass in x = −2" in words(path)


def test_a_jump_that_changes_no_mode_tells_the_mass_that_moves():
    path = path_of()
    for p in path["branches"][0]["points"]:
        p["basins"] = [entry(0.9), entry(0.1)]
    assert "its mass in x = 2 goes from 90.0 % to 60.0 %" in words(path)


def test_more_jumps_than_a_sentence_holds_are_counted():
    path = path_of()
    path["transitions"] = [
        {"alpha": 0.1 * k, "standard_error": 0, "from": "A", "to": "B", "jump": k} for k in range(6)
    ]
    assert "It jumps three more times." in words(path)


@pytest.mark.parametrize(
    ("a", "error", "text"),
    [(0.04070001, 1e-6, "0.0407"), (-1e-9, None, "0"), (-0.5, None, "−0.5"), (2.0, 0, "2"),
     (0.2975, 0.0003, "0.2975 ± 0.0003")],
)  # fmt: skip
def test_alphas_are_written_short(a, error, text):
    assert alpha(a, error) == text


def test_tables_hold_branches_and_jumps():
    branches, jumps = [b for b in section(path_of()).blocks if b.kind == "table"]
    assert [[c.text for c in row.cells] for row in branches.rows] == [
        ["A", "1", "−0.5", "0.5000", "−0.5 to 0.31", "leaves out x = −2 (40.0 % of the target)"],
        ["B", "2", "−0.2000", "2", "0.31 to 2", "covers both modes"],
    ]
    assert branches.rows[0].cells[3].below == ("± 0.0003",)
    assert [c.text for c in jumps.rows[0].cells][:4] == ["0.3100", "A", "B", "3.1"]


def test_figures_tell_their_finding():
    pictures = next(b for b in section(path_of()).blocks if b.kind == "explorer").pictures
    said = [re.search(r"<desc[^>]*>(.*?)</desc>", p.svg)[1] for p in pictures]
    assert len(said) == 5  # under the slider, stills, trade-off, basins, parameters
    assert "α = 0: branch A, which leaves out x = −2" in said[1]
    assert "Fits of this study. mvn/reverse-kl: 0.580 and 2.69" in said[2]
    assert "x = 2: target 60.0 %" in said[3]
    assert "−0.100 (sd 0.400), 0.100 (sd 0.400)" in said[4]


def test_every_fit_of_the_study_is_a_dot():
    comparison = synthetic(names=tuple(f"fit {i}" for i in range(9)))
    text = alone(with_path(path_of(), comparison))
    figure = text[text.index('id="path-tradeoff-t"') :]
    figure = figure[: figure.index("</svg>")]
    assert {f"f{i}" for i in range(9)} <= set(re.findall(r'class="fit (f\d)"', figure))


def test_curves_are_packed_without_loss_that_could_be_seen():
    path = path_of()
    explored = next(b for b in section(path).blocks if b.kind == "explorer")
    data = json.loads(gzip.decompress(base64.b64decode(explored.data)))
    stage, curve = data["stages"][0], data["branches"][1]["curves"][3][0]
    heights = np.cumsum(curve) * stage["step"]
    density = np.array(path["branches"][1]["points"][3]["densities"][0])
    peaks = [p for b in path["branches"] for q in b["points"] for p in q["densities"][0]]
    scale = 600 * stage["step"] / (1.05 * max(peaks))
    assert heights == pytest.approx(density * scale, abs=stage["step"])
    assert data["best"] == [0 if a <= JUMP else 1 for a in path["alphas"]]


def test_a_crowded_path_leaves_room_for_the_rest_of_the_page():
    path = path_of(branches=12, points=60, grid=200, margins=3, error=0.01)
    more = len(alone(with_path(path)).encode()) - len(alone(synthetic()).encode())
    assert more < 600_000


def test_the_script_is_small_and_plain():
    from importlib.resources import files

    script = (files("vi_compare.report.path") / "explorer.js").read_bytes()
    assert len(script) < 4500
    assert b"</" not in script


# ---- in the browser ----

pytest_browser = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("paths")
    out = {}
    for name, make in (("jump", path_of), ("hostile", evil), ("bare", bare)):
        out[name] = folder / f"{name}.html"
        out[name].write_text(alone(with_path(make())), encoding="utf-8")
    return out


@pytest.fixture
def visit(browser, written):  # noqa: F811
    contexts, errors = [], []

    def visit(name="jump", viewport=DESK, scheme="light", **options):
        context = browser.new_context(viewport=viewport, color_scheme=scheme, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("dialog", lambda dialog: (errors.append(dialog.message), dialog.dismiss()))
        page.goto(written[name].as_uri())
        if options.get("java_script_enabled", True):
            page.locator(".explorer.ready").wait_for(state="attached")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert not errors


CURVE = "document.querySelector('.now').getAttribute('d')"
SAYS = "document.getElementById('path-says').textContent"


@pytest_browser
def test_slider_moves_curve_words_and_marks_by_keyboard(visit):
    page = visit()
    slider = page.get_by_label("α", exact=True)
    seen = lambda: page.evaluate(
        f"[{CURVE}, {SAYS}, document.querySelector('.cursor').getAttribute('x1'),"
        "document.querySelector('.ring').getAttribute('cx')]"
    )
    before = seen()
    assert before[1].startswith("α = 0: branch A, the lowest, leaves out x = −2")
    slider.focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    after = seen()
    assert after[1].startswith("α = 0.4: branch B, the lowest, covers both modes")
    assert all(a != b for a, b in zip(before, after, strict=True))
    assert slider.get_attribute("aria-valuetext") == "α = 0.4"
    values = page.locator("#path-numbers dd").all_inner_texts()
    assert values[1] == "0.729 nats"
    page.keyboard.press("Home")
    assert page.evaluate(SAYS).startswith("α = −0.5: branch A")


@pytest_browser
def test_a_branch_can_be_followed_beyond_where_it_is_lowest(visit):
    page = visit()
    page.locator("#path-branch").select_option(label="branch A, −0.5 (edge) to 0.5000 ± 0.0003")
    page.get_by_role("button", name="after the jump").click()
    assert "branch A, leaves out" in page.evaluate(SAYS)
    assert "B is lower. Beside it: B" in page.evaluate(SAYS)
    assert page.evaluate("document.querySelectorAll('.others path').length") == 1
    page.get_by_role("button", name="forward KL").click()
    assert "branch A does not exist here" in page.evaluate(SAYS)
    assert page.evaluate(CURVE) == ""
    assert set(page.locator("#path-numbers dd").all_inner_texts()) == {"–"}


@pytest_browser
@pytest.mark.parametrize("name", ["jump", "hostile", "bare"])
def test_section_fits_a_phone(name, visit):
    page = visit(name, PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    assert page.locator("#path img, #path script:not([type])").count() == 0
    assert page.locator(".held").is_visible()


@pytest_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_about_the_path(scheme, visit):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is missing")
    found = axe.Axe().run(visit(scheme=scheme), context="#path").response["violations"]
    assert not [v["id"] for v in found if v["impact"] in ("serious", "critical")]


@pytest_browser
def test_without_scripts_and_in_print_stills_take_the_place_of_the_slider(visit):
    page = visit(java_script_enabled=False)
    assert not page.locator(".held").is_visible()
    assert page.locator(".still svg").is_visible()
    assert not page.locator(".moving").is_visible()
    page = visit()
    assert page.locator(".moving svg").is_visible()
    assert not page.locator(".still").is_visible()
    page.emulate_media(media="print")
    assert page.locator(".still svg").is_visible()
    assert not page.locator(".held").is_visible()
    assert not page.locator(".moving").is_visible()
