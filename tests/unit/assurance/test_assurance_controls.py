"""The control map: every name in it stands for something, and a map that says too much is told so."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from outcrop.assurance.controls import ControlMap
from outcrop.assurance.controls.table import has_heading
from outcrop.base.errors import InvariantError, NotFound

ROOT = Path(__file__).resolve().parents[3]

CLAIM = """
[whole]
says = "It holds"
code = ["code.py"]
tests."tests/test_it.py" = ["test_it"]
"""
CATALOGUE = 'title = "T"\nsource = "S"\nscope = "all"\n'
TESTED = '[[control]]\nid = "c-1"\ntitle = "One"\nstatus = "tested"\nclaims = ["whole"]\n'


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout in which the small map above is true."""
    for folder in ("src/outcrop", "tests", "docs"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "src/outcrop/code.py").touch()
    (tmp_path / "tests/test_it.py").write_text("def test_it():\n    assert True\n")
    (tmp_path / "docs/page.md").write_text("# A page\n\n## What to do, then\n")
    return tmp_path


def small(controls: str, claims: str = CLAIM) -> ControlMap:
    return ControlMap.parse({"claims": claims, "small": CATALOGUE + controls})


def test_the_map_names_only_what_is_there():
    assert ControlMap.load().problems(ROOT) == []


def test_the_map_is_whole():
    control_map = ControlMap.load()
    sizes = {catalogue.name: len(catalogue.controls) for catalogue in control_map.catalogues}
    assert sizes["aisvs"] == 51 + 95  # levels 1 and 2 of AISVS 1.0
    assert sizes["fedramp-ksi"] == 46
    levels = [control.level for catalogue, control in control_map.controls() if catalogue.name == "aisvs"]
    assert (levels.count(1), levels.count(2)) == (51, 95)
    assert all(control.title and not control.title.endswith(".") for _, control in control_map.controls())


def test_no_requirement_is_copied():
    """The catalogues' texts are theirs; each requirement of AISVS begins with the same two words, ours with none."""
    folder = ROOT / "src/outcrop/assurance/controls"
    assert not [path.name for path in folder.glob("*.toml") if "verify that" in path.read_text("utf-8").lower()]


def test_a_true_map_has_no_problems(checkout: Path):
    documented = '[[control]]\nid = "c-2"\ntitle = "Two"\nstatus = "documented"\ndoc = "docs/page.md#what-to-do-then"\n'
    assert small(TESTED + documented).problems(checkout) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("code.py", "gone.py"), "there is no gone.py"),
        (('["test_it"]', '["test_other"]'), "there is no test tests/test_it.py::test_other"),
        (("tests/test_it.py", "tests/test_none.py"), "there is no test tests/test_none.py::test_it"),
        (('claims = ["whole"]', 'claims = ["hole"]'), "there is no claim 'hole'"),
        (('claims = ["whole"]', ""), "tested if and only if"),
        (('"tested"', '"operator"'), "tested if and only if"),
        (('"tested"\nclaims = ["whole"]', '"not met"'), "must, and only it may, say why"),
        (('"tested"\n', '"tested"\nwhy = "so"\n'), "must, and only it may, say why"),
        (('"tested"\nclaims = ["whole"]', '"documented"'), "names its page and heading"),
        (('"tested"\n', '"tested"\ndoc = "docs/page.md#nowhere"\n'), "there is no docs/page.md#nowhere"),
        (('"tested"\n', '"tested"\ndoc = "docs/none.md"\n'), "there is no docs/none.md"),
    ],
)
def test_a_map_that_says_too_much_is_told(checkout: Path, change: tuple[str, str], problem: str):
    found = small(TESTED.replace(*change), CLAIM.replace(*change)).problems(checkout)
    assert [one for one in found if problem in one], found


def test_a_claim_that_answers_nothing_and_an_id_that_stands_twice_are_told(checkout: Path):
    found = small(TESTED + TESTED, CLAIM + CLAIM.replace("[whole]", "[other]")).problems(checkout)
    assert found == ["claim other: no control refers to it", "c-1: stands twice"]


@pytest.mark.parametrize("row", ['status = "fine"\n', 'status = "tested"\nlikes = 3\n'])
def test_a_row_that_is_not_understood_is_refused(row: str):
    with pytest.raises(InvariantError):
        small(f'[[control]]\nid = "c-1"\ntitle = "One"\n{row}')


def test_a_claim_without_tests_is_refused():
    with pytest.raises(InvariantError):
        small(TESTED, '[whole]\nsays = "It holds"\ncode = []\ntests = {}\n')


def test_controls_are_chosen_by_id_and_by_catalogue():
    control_map = ControlMap.load()
    assert len(control_map.choose()) == sum(len(one.controls) for one in control_map.catalogues)
    assert [control.id for _, control in control_map.choose(["nist-ac-3"])] == ["NIST-AC-3"]
    assert {catalogue.name for catalogue, _ in control_map.choose(names=["aisvs"])} == {"aisvs"}
    with pytest.raises(NotFound, match="NIST-AC-999"):
        control_map.choose(["NIST-AC-999"])
    with pytest.raises(NotFound, match="aisvs, fedramp-ksi"):
        control_map.choose(names=["iso"])


def test_headings_are_found_by_their_anchors(checkout: Path):
    assert has_heading(checkout, "docs/page.md#what-to-do-then")
    assert has_heading(checkout, "docs/page.md")
    assert not has_heading(checkout, "docs/page.md#what-to-do")


@pytest.mark.parametrize(
    "page", ["SECURITY.md", *sorted(f"docs/security/{p.name}" for p in (ROOT / "docs/security").iterdir())]
)
def test_links_of_the_security_pages_lead_somewhere(page: str):
    links = re.findall(r"\]\(([^)]+)\)", (ROOT / page).read_text("utf-8"))
    inside = [os.path.normpath(Path(page).parent / one) for one in links if "://" not in one and one[0] != "#"]
    inside += [page + one for one in links if one[0] == "#"]
    assert [one for one in inside if not has_heading(ROOT, one)] == []
