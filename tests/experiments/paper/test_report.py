"""docs/paper.md: written from results, and as they are now."""

import pathlib

import numpy as np
import pytest
from helpers import drawn_study, made_up_results

from experiments.paper import published, report
from experiments.paper.interaction import coefficient
from experiments.studies import study as study_lib
from experiments.studies.study import RESULTS

ROOT = pathlib.Path(__file__).parents[3]
STUDY = drawn_study.STUDY


@pytest.fixture
def sections(monkeypatch):
  """All sections but the last, of the made-up study alone."""
  monkeypatch.setattr(study_lib, "known", lambda: [STUDY.name])
  of_study = [
    section._replace(studies=(STUDY.name,)) for section in report.SECTIONS[:-1]
  ]
  monkeypatch.setattr(report, "SECTIONS", of_study)
  return of_study


def value(run, name, step):
  """k8 is better at large k, k1 at small; more is solved with each step."""
  if "pass@" in name:
    k = int(name.split("@")[1])
    small = run.arm in ("k1", "annealed")
    return (0.3 if small else 0.2) + (0.01 if small else 0.02) * k
  return 0.1 * step


def test_the_page_is_that_of_the_committed_results():
  page = (ROOT / "docs" / "paper.md").read_text()
  assert page == report.text(ROOT / RESULTS), (
    "run: python -m experiments.paper.report"
  )


def test_what_has_no_results_says_so_and_how_to_make_them(sections, tmp_path):
  report.write(tmp_path / "docs", tmp_path / "none")
  page = (tmp_path / "docs" / "paper.md").read_text()
  assert page.count(f"{STUDY.name}: no results yet") == len(sections)
  command = f"experiments.studies.run --study={STUDY.name} --processes=2"
  assert page.count(command) == len(sections)
  assert "0 of 15 |" in page
  assert not (tmp_path / "docs" / "paper").exists()


@pytest.fixture
def results(tmp_path):
  runs = made_up_results.all_runs(STUDY)
  made_up_results.write(STUDY, tmp_path / "results", runs, value)
  return tmp_path / "results"


def test_findings_and_tables_of_results(sections, results):
  page = report.text(results)
  assert "no results yet" not in page
  assert f"**{STUDY.name}** (seeds 1, 2, commit abc1234, 0.5 hours): " in page
  tables = f"| Tables | {sections[0].claim} | {STUDY.name}: larger k_opt gain"
  assert tables in page
  assert "| k8 | 22.00 ± 0.00 |" in page
  assert f"| [{STUDY.name}](" in page and "15 of 15 | 1.2, measured |" in page
  assert page.count("](paper/") == 4


def test_pictures_lie_where_the_page_looks_for_them(
  sections, results, monkeypatch, tmp_path
):
  monkeypatch.setattr(report, "SECTIONS", [sections[0], sections[2]])
  report.write(tmp_path / "docs", results)
  (picture,) = (tmp_path / "docs" / "paper").iterdir()
  assert picture.name == f"fig6_exploration_{STUDY.name}.png"
  page = (tmp_path / "docs" / "paper.md").read_text()
  assert f"(paper/{picture.name})" in page


def test_every_section_and_study_is_asked():
  """Pages and studies that nobody would notice missing."""
  asked = {study for section in report.SECTIONS for study in section.studies}
  assert asked == {*study_lib.known()} - {"update_terms"}
  for section in report.SECTIONS:
    for name in section.studies:
      figures = study_lib.load(name).figures
      assert section.module in figures, (section.title, name)


def test_the_papers_tables_say_what_the_paper_says():
  """The best of a column is the nearest k_opt, so that d is above 0."""
  for rows in published.TABLES.values():
    ks = {"k1": 1, "k2": 2, "k4": 4, "k8": 8}
    table = np.array([rows[arm] for arm in ks])
    best = [list(ks)[i] for i in table.argmax(axis=0)]
    assert best == ["k1", "k2", "k4", "k8", "k8"]
    assert coefficient(table, list(ks.values()), published.K_EVAL) > 0
    assert {len(row) for row in rows.values()} == {len(published.K_EVAL)}
