"""Labels as text and back, and what is said of labels that cannot be read."""

from __future__ import annotations

import pytest
from numpyro.infer.autoguide import AutoNormal

from vi_compare import Study, catalogue
from vi_compare.errors import InputError
from vi_compare.run.labels import parse_label, parse_part


@pytest.mark.parametrize(
    ("kind", "text", "short", "full"),
    [
        ("guides", "mixture:2", "mixture:2", "mixture(components=2,diagonal=False)"),
        ("guides", "mixture", "mixture:2", "mixture(components=2,diagonal=False)"),
        ("guides", "mixture:components=5", "mixture:5", "mixture(components=5,diagonal=False)"),
        ("guides", "mixture:3,diagonal", "mixture:components=3,diagonal",
         "mixture(components=3,diagonal=True)"),
        ("guides", " mvn ", "mvn", "mvn()"),
        ("divergences", "reverse-kl", "reverse-kl",
         "reverse-kl(particles=16,stl=False,score=False)"),
        ("divergences", "reverse-kl:stl", "reverse-kl:stl",
         "reverse-kl(particles=16,stl=True,score=False)"),
        ("divergences", "reverse-kl:8", "reverse-kl:particles=8",
         "reverse-kl(particles=8,stl=False,score=False)"),
        ("divergences", "reverse-kl:particles=8, stl", "reverse-kl:particles=8,stl",
         "reverse-kl(particles=8,stl=True,score=False)"),
        ("solvers", "svi:steps=500", "svi:steps=500", "svi(steps=500,learning_rate=0.05)"),
    ],
)  # fmt: skip
def test_a_part_is_read_and_written(kind, text, short, full):
    part = parse_part(kind, text)
    assert part.text == short
    assert part.full == full
    assert parse_part(kind, part.text) == part


def test_a_label_is_read_and_written():
    label = parse_label("mixture/reverse-kl/svi:steps=500")
    assert label.name == "mixture:2/reverse-kl/svi:steps=500"
    assert parse_label("mvn/forward-kl").solver is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mixture", "write GUIDE/DIVERGENCE"),
        ("a/b/c/d", "write GUIDE/DIVERGENCE"),
        ("mvn/", "write GUIDE/DIVERGENCE"),
        ("mixtur:2/reverse-kl", "did you mean mixture"),
        ("mvn/reverse", "no divergence is called 'reverse'"),
        ("mvn/reverse-kl/adam", "no solver is called 'adam'"),
        ("mixture:two/reverse-kl", "must be a whole number"),
        ("mixture:2.5/reverse-kl", "must be a whole number"),
        ("mvn:3/reverse-kl", "takes no option"),
        ("mixture:parts=3/reverse-kl", "no option is called 'parts'"),
        ("mixture:2,components=3/reverse-kl", "given twice"),
        ("mvn/reverse-kl:stl=maybe", "must be true or false"),
        ("mvn/reverse-kl/svi:learning_rate=fast", "must be a number"),
    ],
)
def test_a_label_that_cannot_be_read_is_refused_in_words(text, words):
    with pytest.raises(InputError, match=words):
        parse_label(text)


def mine():
    pass


OWN = {"mine": mine}


def test_the_guides_of_a_script_have_labels():
    label = parse_label("mine/reverse-kl", OWN)
    assert label.name == "mine/reverse-kl"
    assert label.guide.full == "mine()"
    assert label.guide.build("a model") is mine
    # and those of the catalogue are still there
    assert parse_label("mvn/reverse-kl", OWN).guide.own is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mime/reverse-kl", "did you mean mine or"),
        ("zzzz/reverse-kl", "there is .*mine.*mvn"),
        ("mine:3/reverse-kl", "takes no option"),
        ("mvn/mine", "no divergence is called 'mine'"),
    ],
)
def test_a_label_beside_the_guides_of_a_script_is_refused_in_words(text, words):
    with pytest.raises(InputError, match=words):
        parse_label(text, OWN)


@pytest.mark.parametrize(
    ("guides", "words"),
    [
        ({"mvn": mine}, "'mvn' is a guide of the catalogue"),
        ({"my/guide": mine}, "must not contain"),
        ({"my:guide": mine}, "must not contain"),
        ({" mine": mine}, "cannot be a name"),
        ({"": mine}, "cannot be a name"),
        ({3: mine}, "cannot be a name"),
        ({"mine": 3}, "'mine' is a int"),
        ({"mine": AutoNormal}, "'mine' is a class"),
        ([mine], "guides is a list"),
    ],
)
def test_guides_that_no_label_can_name_are_refused(guides, words):
    with pytest.raises(InputError, match=words):
        Study(mine, guides=guides)


@pytest.mark.parametrize(
    ("kind", "text", "given"),
    [("guides", "mixture:0", None), ("guides", "lowrank:0", None),
     ("divergences", "reverse-kl:0", None), ("divergences", "forward-kl", None),
     ("solvers", "svi:steps=10", ()), ("solvers", "svi:learning_rate=-1", ()),
     ("solvers", "moments:iterations=0", ())],
)  # fmt: skip
def test_values_that_make_no_sense_are_refused_when_built(kind, text, given):
    with pytest.raises(InputError):
        parse_part(kind, text).build(*([None] if given is None else given))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cubo:1", r"^cubo: order must be above 1, got 1\.0$"),
        ("iwelbo:0", "^iwelbo: samples must be at least 1"),
        ("wake:1", "^wake: particles must be at least 2, got 1$"),
    ],
)
def test_what_a_constructor_refuses_is_said_with_the_name_in_the_label(text, words):
    with pytest.raises(InputError, match=words) as refused:
        parse_part("divergences", text).build(None)
    assert isinstance(refused.value.__cause__, ValueError)


def test_nothing_is_imported_to_list_names():
    assert {"mixture", "mvn", "normal"} <= set(catalogue.names("guides"))
    assert "__init__" not in catalogue.names("guides")
