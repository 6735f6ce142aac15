"""The gallery: every run folder below a folder, its verdicts, and no markup of its files."""

from __future__ import annotations

import json
from urllib.parse import unquote

from test_report import HOSTILE, Page, gaussian_mixture, hostile, synthetic

from vi_compare.report.gallery import find, render_index


def folder(root, name, comparison, *, page=True, **environment):
    path = root / name
    path.mkdir(parents=True)
    comparison.results["environment"].update(environment)
    (path / "results.json").write_text(json.dumps(comparison.results), encoding="utf-8")
    if page:
        (path / "report.html").write_text("a page", encoding="utf-8")
    return path


def test_every_run_folder_is_linked_with_its_verdicts(tmp_path):
    folder(tmp_path, "a", synthetic(), created="2026-11-22 20:00")
    folder(tmp_path, "deep/b #1", gaussian_mixture(2))
    text = render_index(find(tmp_path), tmp_path)
    page = Page(text)
    assert not page.open
    assert [unquote(a) for a in page.addresses] == ["a/report.html", "deep/b #1/report.html"]
    assert all((tmp_path / unquote(address)).is_file() for address in page.addresses)
    for words in ("Two comparisons", "Two peaks: which is kept?", "2026-11-22 20:00", "3 fits"):
        assert words in page.text
    assert text.count('class="pill bad"') == 2  # of the two mvn fits in the plane
    assert render_index(find(tmp_path), tmp_path) == text


def test_texts_are_escaped_and_cut(tmp_path):
    comparison = hostile()
    comparison.results["target"]["description"] = HOSTILE + "x" * 10_000
    folder(tmp_path, "<b>&'\"", comparison)
    text = render_index(find(tmp_path), tmp_path)
    page = Page(text)
    assert not page.open
    assert page.scripts == 0
    assert HOSTILE in page.text
    assert len(page.text) < 1500
    assert unquote(page.addresses[0]) == "<b>&'\"/report.html"


def test_folders_that_cannot_be_shown_say_why(tmp_path):
    folder(tmp_path, "no page", synthetic(), page=False)
    for name, text in (("broken", "{"), ("old", '{"schema": 0}'), ("half", '{"schema": 1}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(text)
    page = Page(render_index(find(tmp_path), tmp_path))
    assert page.addresses == []
    for words in ("not valid JSON", "not of schema 1", "required property", "no report.html"):
        assert words in page.text


def test_no_folders_make_a_page_that_says_so(tmp_path):
    assert "There are no run folders here" in Page(render_index(find(tmp_path))).text
