"""README's Python lines in a notebook, and what a notebook shows of a Comparison."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from test_report import synthetic

from vi_compare import Comparison

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """README's blocks, each executed as a cell of one notebook by a kernel of its own."""
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.M | re.S)
    assert len(blocks) == 4
    # Its lines, with fewer steps and draws: what they reach is tested elsewhere.
    small = "study.run(__import__('vi_compare').Settings(draws=2000, restarts=2))"
    blocks = [b.replace("study.run()", small).replace("5000", "100") for b in blocks]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(b) for b in blocks])
    # A script's last lines, study.main(), have no script here.
    notebook.cells[0].metadata["tags"] = ["raises-exception"]
    folder = str(tmp_path_factory.mktemp("notebook"))
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": folder}}).execute()
    return notebook.cells


def test_a_scripts_main_is_answered_in_one_line(cells):
    (error,) = [out for out in cells[0].outputs if out.output_type == "error"]
    assert error.ename == "InputError"
    assert "in a notebook call study.run()" in error.evalue


def test_a_cell_shows_its_progress_while_it_lasts_and_then_the_comparison(cells):
    line, result = cells[2].outputs  # nothing on stderr, no warning
    assert line.output_type == "display_data"
    assert line.data["text/plain"] == ""
    assert result.output_type == "execute_result"
    assert len(result.data["text/plain"]) < 200
    html = result.data["text/html"]
    assert "<td>mvn/reverse-kl</td><td><b>Faithful</b></td>" in html
    assert "<li>For intervals: " in html
    assert 'href="reports/mine/report.html"' in html


def test_the_parts_work_in_a_script_of_ones_own(cells):
    assert not [out for out in cells[3].outputs if out.output_type == "error"]


def test_what_somebody_already_ran_is_judged(cells):
    """SVI's result, by README's lines: their steps are few here."""
    shown = cells[1].outputs[-1].data
    assert "<td>mine</td>" in shown["text/html"]
    assert "<td>mvn</td><td><b>Faithful</b></td>" in shown["text/html"]


def test_the_notebook_of_the_docs_runs(tmp_path):
    """And says what its text says: mean field is off, the full covariance is not."""
    notebook = nbformat.read(ROOT / "docs" / "judge_what_you_ran.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # made anew by who runs it
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=600, resources=resources).execute()
    shown = [out.get("data", {}) for cell in notebook.cells for out in cell.get("outputs", ())]
    html = next(out["text/html"] for out in shown if "<td>mine</td>" in out.get("text/html", ""))
    assert "<td>mvn</td><td><b>Faithful</b></td>" in html
    assert "<td>mine</td><td><b>Faithful" not in html
    assert (tmp_path / "reports" / "judged" / "report.html").exists()


def test_a_comparison_says_where_its_page_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    comparison = synthetic(names=("<b>", "b"))
    assert "vi_compare.report.render(comparison)" in comparison._repr_html_()
    comparison.save("runs/a b&c", "a page")
    link = 'href="runs/a%20b%26c/report.html"'
    assert link in comparison._repr_html_()
    assert link in Comparison.load("runs/a b&c")._repr_html_()
    comparison.save("runs/a b&c")  # which removes a page of other numbers
    assert "href" not in comparison._repr_html_()
    assert "<b>:" not in comparison._repr_html_()
    assert "<li>For" in comparison._repr_html_()
