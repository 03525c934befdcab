"""A study as data: configs of its arms, its runs, and mistakes in it."""

import dataclasses

import pytest
from helpers import tiny_study

from experiments.studies import study as study_lib
from experiments.studies.study import Family, Run
from pkpo_jax.training import config as config_lib

TINY = tiny_study.STUDY
TUNED = dataclasses.replace(TINY, rates=(1e-4, 2e-4), seeds=(0, 1, 2))


def test_the_config_of_a_run_has_the_values_of_its_arm_rate_and_seed():
  config = TUNED.make_config(Run("annealed", 2e-4, 1))
  assert (config.k_opt, config.k_boundaries) == ((2, 1), (10,))
  assert (config.num_steps, config.eval.every) == (20, 10)
  assert (config.learning_rate, config.seed) == (2e-4, 1)


def test_any_value_can_be_tuned():
  study = dataclasses.replace(TINY, tuned="loss.entropy_coef", rates=(0.01,))
  config = study.make_config(study.runs_to_tune[0])
  assert config.loss.entropy_coef == 0.01
  assert config.learning_rate == 4e-4


def test_options_that_the_config_does_not_list_can_be_set():
  study = dataclasses.replace(TINY, arms={"rank": {"model.lora_rank": 4}})
  assert study.make_config(Run("rank", 1e-3, 0)).model.lora_rank == 4


def test_a_config_may_take_an_argument():
  study = dataclasses.replace(
    TINY, config="configs/gemma2_2b_math.py:laptop", arms={"k1": {}}
  )
  config = study.make_config(Run("k1", 1e-3, 0))
  assert (config.task.name, config.num_steps) == ("copy_words", 2)


def test_a_value_of_another_type_names_study_arm_and_option():
  study = dataclasses.replace(TINY, arms={"k8": {"k_opt": 8}})
  with pytest.raises(ValueError, match=r"arm 'k8': config\.k_opt cannot be 8"):
    study.make_config(Run("k8", 1e-3, 0))


def test_the_first_seed_tunes_and_the_others_are_reported():
  assert TUNED.runs_to_tune == [
    Run("k1", 1e-4, 0),
    Run("annealed", 1e-4, 0),
    Run("k1", 2e-4, 0),
    Run("annealed", 2e-4, 0),
  ]
  assert TUNED.runs_to_report({"k1": Run("k1", 2e-4, 0)}) == [
    Run("k1", 2e-4, 1),
    Run("k1", 2e-4, 2),
  ]


def test_with_nothing_to_tune_all_seeds_are_reported():
  assert TINY.reported_seeds == (0, 1)


def test_an_arm_is_tuned_for_the_k_that_it_ends_with_or_as_told():
  assert TINY.objective("k1") == "train pass@1"
  assert TINY.objective("annealed") == "train pass@1"
  told = dataclasses.replace(TINY, objectives={"k1": "final solve_rate"})
  assert told.objective("k1") == "final solve_rate"
  assert told.objective("annealed") == "train pass@1"
  told = dataclasses.replace(TINY, measure="max")
  assert told.objective("annealed") == "train max@1"


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"arms": {}}, "has no arms"),
    ({"seeds": ()}, "has no seeds"),
    ({"rates": (1e-4, 2e-4), "seeds": (0,)}, "give more seeds, to report"),
    ({"objectives": {"k3": "train pass@1"}}, r"unknown arms \['k3'\]"),
    ({"families": {"k": Family(("k3",), "k1")}}, r"unknown arms \['k3'\]"),
    ({"families": {"k": Family(("k1",), "k1")}}, r"unknown arms \['k1'\]"),
    ({"measure": "mean"}, "measure='mean'"),
  ],
)
def test_studies_that_cannot_be_run_are_refused(change, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(TINY, **change)


@pytest.mark.slow
@pytest.mark.parametrize("name", study_lib.known())
def test_studies_in_the_folder_are_named_as_their_file_and_valid(name):
  study = study_lib.load(name)
  for arm in study.arms:
    run = Run(arm, study.rates[0], study.seeds[0])
    config_lib.check(study.make_config(run))
    assert study.objective(arm)


def test_an_unknown_study_names_those_there_are():
  with pytest.raises(ValueError, match=r"no such study; known: .*countdown, "):
    study_lib.load("countup")
  with pytest.raises(ValueError, match="No module named"):
    study_lib.load("tests.helpers.no_study")


def test_a_study_of_another_module_is_loaded_by_its_full_name():
  assert study_lib.load("tests.helpers.tiny_study") == TINY


def test_a_name_that_is_not_that_of_its_module_is_refused(monkeypatch):
  wrong = dataclasses.replace(TINY, name="other")
  monkeypatch.setattr("experiments.studies.countdown.STUDY", wrong)
  with pytest.raises(ValueError, match="is named 'other'"):
    study_lib.load("countdown")
