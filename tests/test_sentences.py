"""No sentence is read back as data: other words in a finished run change nothing but words.

A finished run is written with every message, remedy, reason and doubt replaced by gibberish
that shares no word with it. What is decided from the run must stay: marks, advice, the
structure of the page, what `diff` finds, and the verdict itself.
"""

from __future__ import annotations

import copy
import json
import re
from dataclasses import replace

import pytest

from vi_compare.comparison import Comparison
from vi_compare.difference import difference
from vi_compare.metrics import abouts
from vi_compare.report import render
from vi_compare.report.advice import advice
from vi_compare.report.gallery import render_index
from vi_compare.report.view import View
from vi_compare.verdict import Concern, Doubt, judge

# Keys of results.json whose values are for people alone.
SENTENCES = {
    "message", "remedy", "doubt", "reason", "reasons", "words", "use_for", "next_step",
    "log_normalizer_reason",
}  # fmt: skip
GIBBERISH = "zyx wvu 17 tsr"


def scrambled(value, key=""):
    """The same data with every sentence replaced; an empty one stays empty."""
    if isinstance(value, dict):
        return {k: scrambled(v, k) for k, v in value.items()}
    if isinstance(value, list):
        return [scrambled(v, key) for v in value]
    return GIBBERISH if key in SENTENCES and isinstance(value, str) and value else value


def skeleton(page: str) -> list[str]:
    """The page without its texts: tags, classes, ids and marks in order. A long text is
    set in another way than a short one ("prose", a fold, places where a line may break)."""
    page = re.sub(r"\bprose\b|<wbr>|</?details>|</?summary>", "", page)
    page = re.sub(r"<(script|style).*?</\1>", "", page, flags=re.S)
    page = re.sub(r'(title|aria-label|content|data-\w+)="[^"]*"', "", page)
    return [" ".join(part.split()) for part in re.findall(r"<[^>]+>|[✓✗]", page)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Comparison:
    """A run with everything that is put into words: doubts, faults, a fit that has not
    converged, one that failed, metrics that do not exist, published figures."""
    from vi_compare import script
    from vi_compare.settings import Settings

    folder = tmp_path_factory.mktemp("sentences")
    (folder / "model.py").write_text(MODEL)
    comparison = script.load(folder / "model.py").run(Settings(draws=2000, restarts=2))
    results = comparison.results
    results["target"]["reference"]["doubts"] = [
        {"kind": kind, "words": f"{kind}: as it was found, 12.3"} for kind in Concern
    ]
    failed = copy.deepcopy(results["fits"][0])
    failed |= {"name": "failed", "status": "failed", "message": "broke at site 'x'", "metrics": {}}
    failed["verdict"] |= {"word": "Failed", "also": [], "reasons": ["It failed: site 'x'."]}
    results["fits"].append(failed)
    return comparison


MODEL = '''"""Two peaks."""

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from vi_compare import Given, Published, Study

mixture = dist.MixtureSameFamily(
    dist.Categorical(probs=jnp.array([0.4, 0.6])), dist.Normal(jnp.array([-2.0, 2.0]), 0.5)
)


def model():
    numpyro.sample("x", mixture)


study = Study(
    model,
    exact=lambda key, n: {"x": mixture.sample(key, (n,))},
    fits=[
        "mvn/reverse-kl",
        "mvn/reverse-kl/svi:steps=200",
        "mixture:2/forward-kl",
        Given("published", "mixture:2", weights=[0.5, 0.5], means=[-2.0, 2.0], sds=[0.5, 0.5]),
    ],
    published=[
        Published("published", "a post", metrics={"forward_kl": "0.0012", "chi2": "0.1"}),
        Published("mvn/reverse-kl", "a post", metrics={"wasserstein": "0.5"}),
    ],
)
'''


def with_results(comparison: Comparison, results: dict) -> Comparison:
    return replace(comparison, results=results)


def test_there_are_sentences_of_every_kind(finished):
    found: set[str] = set()

    def collect(value, key=""):
        for k, v in value.items() if isinstance(value, dict) else ():
            collect(v, k)
        for v in value if isinstance(value, list) else ():
            collect(v, key)
        if isinstance(value, str) and value:
            found.add(key)

    collect(finished.results)
    assert {"message", "remedy", "reasons", "words", "use_for", "next_step"} <= found
    text = json.dumps(scrambled(finished.results), ensure_ascii=False)
    assert "as it was found" not in text
    assert "broke at site" not in text


def test_the_page_has_the_same_structure_and_marks_in_other_words(finished):
    other = with_results(finished, scrambled(finished.results))
    before, after = skeleton(render(finished)), skeleton(render(other))
    assert len(before) > 1000
    assert after == before


def test_advice_is_the_same_in_other_words(finished):
    # The doubts would leave every mark of the advice out.
    results = copy.deepcopy(finished.results)
    results["target"]["reference"]["doubts"] = []
    told = lambda r: [
        (a.use, a.mark, [f.name for f in a.fits], a.more, a.evidence)
        for a in advice(View.of(with_results(finished, r)))
    ]
    assert told(results)
    assert told(scrambled(results)) == told(results)


def test_two_runs_that_differ_in_words_do_not_differ(finished):
    found = difference(finished.results, scrambled(finished.results))
    assert not found.changed, (found.words, found.numbers)


def test_the_gallery_is_the_same_in_other_words(finished, tmp_path):
    for name, results in (("a", finished.results), ("b", scrambled(finished.results))):
        (tmp_path / name / "run").mkdir(parents=True)
        (tmp_path / name / "run" / "results.json").write_text(json.dumps(results))
    pages = [render_index([tmp_path / name / "run"]) for name in "ab"]
    assert skeleton(pages[0]) == skeleton(pages[1])


@pytest.mark.parametrize("status", ["converged", "not converged", "failed", "given"])
@pytest.mark.parametrize("doubted", [False, True])
def test_the_verdict_does_not_hang_on_words(finished, status, doubted):
    scores: dict[str, dict] = {}
    for (fit, metric, label), estimate in finished.scores.items():
        if fit == "mvn/reverse-kl":
            scores.setdefault(metric, {})[label] = estimate
    one, two = (
        judge(
            status,
            words,
            {m: {k: replace(e, reason=e.reason and words) for k, e in by.items()}
             for m, by in scores.items()},
            (Doubt(Concern.STEIN, words),) if doubted else (),
            abouts=abouts(),
            remedy="the same",
        )
        for words in ("the loss still falls; raise svi:steps=80000", GIBBERISH)
    )  # fmt: skip
    decided = lambda v: (v.word, v.also, v.use_for, v.next_step, v.reweightable, v.vague, v.mild)
    assert decided(one) == decided(two)
