"""The tables of a study, against numbers added by hand."""

import csv
import dataclasses
import math

import numpy as np
import pytest
from helpers import drawn_study, made_up_results

from experiments.paper import from_studies, interaction, tables
from experiments.studies import results
from experiments.studies.study import Family

STUDY = dataclasses.replace(drawn_study.STUDY, last=2)
NAN = float("nan")


def cell(mean, error, lower=None, upper=None):
  """A cell whose bounds are the mean, unless given."""
  ends = (mean if x is None else x for x in (lower, upper))
  return tables.Cell(mean, error, *ends)


# Held-out pass@k of the reported seeds, 1 and 2; of k8 times 1 + k / 10.
FINAL = {"k1": (0.20, 0.24), "k8": (0.10, 0.20), "annealed": (0.24, 0.28)}


def value(run, name, step):
  """Training is best at rate 2e-4; held-out numbers do not depend on it."""
  if not name.startswith("test"):
    return 0.5 if run.rate == 2e-4 else 0.25
  k = int(name.split("@")[1])
  if step == 0:
    return 0.05
  final = FINAL[run.arm][run.seed - 1] if run.seed else 0.9
  return final * (1 + 0.1 * k) if run.arm == "k8" else final


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  path = tmp_path_factory.mktemp("results")
  runs = made_up_results.all_runs(STUDY)
  made_up_results.write(STUDY, path, runs, value)
  return path


@pytest.fixture
def data(folder):
  return from_studies.load(STUDY.name, folder)._replace(study=STUDY)


def test_held_out_by_hand(data):
  """k1: .20 and .24, mean .22, error .04 / 2; seed 0 tuned and is not in it."""
  table = tables.held_out(data)
  assert list(table) == ["base policy", "k1", "k8", "annealed"]
  assert table["base policy"][0].mean == 0.05
  assert table["k1"][0] == pytest.approx(cell(0.22, 0.02))
  # k = 16: (.10 and .20) * 2.6, mean .39, error .13.
  assert table["k8"][4] == pytest.approx(cell(0.39, 0.13))


def test_differences_are_paired_by_seed(data):
  """Annealed: .04 more in both seeds: no error. k8 at k = 1: -.09 and -.02."""
  table = tables.differences(data)
  assert list(table) == ["k8 - k1", "annealed - k1"]
  assert table["annealed - k1"][0] == pytest.approx(cell(0.04, 0), abs=1e-12)
  assert table["k8 - k1"][0] == pytest.approx(cell(-0.055, 0.035))


def test_training_is_the_mean_of_the_last_steps(data):
  assert tables.training(data)["k1"][0] == pytest.approx(cell(0.5, 0))


def test_tuning_shows_the_seed_that_chose(data, folder):
  rows = tables.tuning(data, folder)
  assert list(rows) == [
    "k1: train pass@1",
    "k8: train pass@8",
    "annealed: train pass@1",
  ]
  assert [c.mean for c in rows["k8: train pass@8"]] == [0.25, 0.5, 0.25]


def test_the_best_of_a_column_is_bold():
  table = {
    "base policy": [cell(0.1, NAN), cell(0.7, NAN)],
    "a": [cell(0.20001, 0.01), cell(0.5, 0.02)],
    "b": [cell(0.20002, 0.03), cell(-0.5, 0.123456)],
  }
  assert tables.markdown(["arm", "pass@1", "pass@2"], table) == (
    "| arm | pass@1 | pass@2 |\n"
    "|---|---|---|\n"
    "| base policy | 10.00 | **70.00** |\n"
    "| a | **20.00 ± 1.00** | 50.00 ± 2.00 |\n"
    "| b | **20.00 ± 3.00** | -50.00 ± 12.35 |"
  )


def test_bounds_stand_in_the_place_of_a_mean():
  """And nothing is best that may be beaten."""
  table = {
    "a": [cell(NAN, NAN, 0.1, 0.45), cell(NAN, NAN, 0.1, 0.2)],
    "b": [cell(0.4, 0.01), cell(0.4, 0.01)],
  }
  assert tables.markdown(["arm", "pass@1", "pass@2"], table).splitlines()[
    2:
  ] == [
    "| a | 10.00..45.00 | 10.00..20.00 |",
    "| b | 40.00 ± 1.00 | **40.00 ± 1.00** |",
  ]


def test_bounds_of_means_and_of_differences(data):
  """k8 has 0 to .3 and .22 at k = 1; k1 has .20 and .24."""
  column = data.by_arm["k8"][0].test
  column["pass@1"][-1] = NAN
  column["pass@1_lower"] = np.array([NAN, 0.0])
  column["pass@1_upper"] = np.array([NAN, 0.3])
  found = tables.held_out(data)["k8"][0]
  assert math.isnan(found.mean) and math.isnan(found.error)
  assert found[2:] == pytest.approx((0.22 / 2, (0.3 + 0.22) / 2))
  gain = tables.differences(data)["k8 - k1"][0]
  assert math.isnan(gain.mean)
  assert gain[2:] == pytest.approx(((-0.2 - 0.02) / 2, (0.1 - 0.02) / 2))


def test_without_bold_and_percent():
  table = {"a": [cell(0.6667, 0.05)], "b": [cell(0.1, NAN)]}
  text = tables.markdown(["arm", "entropy"], table, percent=False, bold=False)
  assert text.splitlines()[2:] == ["| a | 0.667 ± 0.050 |", "| b | 0.100 |"]


def test_all_tables_are_written(folder, tmp_path, capsys):
  tables.draw(tmp_path, study=STUDY.name, results=folder)
  text = (tmp_path / f"tables_{STUDY.name}.md").read_text()
  assert capsys.readouterr().out.strip() == text.strip()
  assert text.startswith(f"# Study {STUDY.name}: seeds 1, 2, commit abc1234\n")
  counted = "128 problems an evaluation, 24 answers ungraded in 6 runs"
  assert f"Held-out problems, percent; {counted}:" in text
  assert "| k1 | 22.00 ± 2.00 |" in text
  assert "| annealed - k1 | 4.00 ± 0.00 |" in text
  assert "| annealed | **26.00 ± 2.00** |" in text
  with (tmp_path / f"tables_{STUDY.name}.csv").open(newline="") as file:
    rows = list(csv.DictReader(file))
  assert len(rows) == 4 * len(STUDY.k_eval)
  assert {row["measure"] for row in rows} == {"pass"}


def test_a_single_arm_has_no_differences(folder, tmp_path):
  tables.draw(tmp_path, study=STUDY.name, results=folder, arms=["k8"])
  text = (tmp_path / f"tables_{STUDY.name}.md").read_text()
  assert "paired" not in text and "| k8 |" in text


def test_constant_ks_are_summed_up(data, folder):
  """k = 1 is flat in k_eval; k = 8 gains .15 x (1 + k / 10)."""
  text = tables.text(data, folder)
  best = "k1 at 1, k1 at 2, k1 at 4, k8 at 8"
  assert f"Best of constant k by pass@k_eval: {best}" in text
  table = [[0.22] * 5, [0.15 * (1 + k / 10) for k in STUDY.k_eval]]
  d = interaction.coefficient(np.array(table), (1, 8), STUDY.k_eval)
  assert f"percent: {100 * d:.3f}; 95 % interval over seeds" in text


def with_max(data):
  """The same runs with rewards that have parts: max@k is .3 more."""
  for runs in data.by_arm.values():
    for result in runs:
      for k in STUDY.k_eval:
        result.test[f"max@{k}"] = result.test[f"pass@{k}"] + 0.3
        result.by_problem[f"max@{k}"] = result.by_problem[f"pass@{k}"] + 0.3
  return data


def test_max_at_k_is_tabled_where_there_is_one(data, folder):
  assert tables.measures(data) == ("pass",)
  text = tables.text(with_max(data), folder)
  assert tables.measures(data) == ("pass", "max")
  assert "| k1 | 22.00 ± 2.00 |" in text and "| k1 | 52.00 ± 2.00 |" in text
  assert text.count("Interaction of log2") == 2


def test_what_a_family_chose_from_is_tabled(tmp_path):
  study = dataclasses.replace(
    STUDY,
    arms={
      **STUDY.arms,
      "weak": {**STUDY.arms["k1"], "loss.entropy_coef": 0.001},
      "strong": {**STUDY.arms["k1"], "loss.entropy_coef": 0.01},
    },
    families={"bonus": Family(("weak", "strong"), rate_of="k1")},
  )

  def by_arm(run, name, step):
    return {"weak": 0.3, "strong": 0.4}.get(run.arm, 0.5)

  made_up_results.write(
    study, tmp_path, made_up_results.all_runs(study), by_arm
  )
  data = from_studies.Data(study, results.reported(study, tmp_path))
  text = tables.text(data, tmp_path)
  assert "| family | weak | strong |" in text
  assert "| bonus: train pass@1 | 0.300 | 0.400 |" in text
  assert "| bonus | 40.00 ± 0.00 |" in text
