"""What a study is: a config, named changes to it, rates to tune, and seeds.

A study is a file of data beside this one: STUDY = Study(...). One runner,
experiments.studies.run, trains any of them, and experiments.paper draws them.
"""

import dataclasses
import importlib
import pathlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
  import ml_collections

RESULTS = pathlib.Path("experiments/studies/results")  # of all studies
_NO_STUDIES = ("__init__", "study", "run", "results", "side_by_side")


class Run(NamedTuple):
  """One training run of a study."""

  arm: str
  rate: float
  seed: int

  @property
  def name(self) -> str:
    """Its name in folders and files, as k8_0.0004_seed0."""
    return f"{self.arm}_{self.rate:g}_seed{self.seed}"


class Family(NamedTuple):
  """Arms of which the best is reported, under the name of the family.

  They differ in one more value, which is tuned in place of the rate.

  Attributes:
    arms: their names.
    rate_of: the arm whose best rate all of them take.
  """

  arms: tuple[str, ...]
  rate_of: str


@dataclasses.dataclass(frozen=True)
class Study:
  """Arms of one config, compared at the best rate of each.

  Each arm is trained at every rate with the first seed. The rate at which its
  own objective is best is then trained with the other seeds, and only these
  are reported: the seed that chose the rate flatters it. With a single rate
  there is nothing to tune, and all seeds are reported.

  A metric is written "train NAME" (mean over the last steps), "final NAME"
  (last step), "rise NAME" (over the last third of the steps) or "test NAME"
  (last evaluation on held-out problems). "train NAME + NAME" is the mean of
  several.

  Attributes:
    name: as --study takes it: this file's, or the full name of another module.
    config: its file, an argument of `get_config` after a colon.
    arms: name -> changed values of the config, {"k_opt": (1,),
      "loss.entropy_coef": 0.01}. Paired differences are taken from the first.
    rates: values of `tuned` to choose from, for each arm by itself.
    seeds: values of `seed` in the config.
    seconds: that a run takes, for the estimate before one has finished.
    tuned: the config value that the rates are of.
    changes: values of the config that all arms change alike.
    families: name -> arms of which the best is reported.
    rates_from: a study whose best rates arms of the same names take. Then
      nothing is tuned, and all seeds are reported.
    measure: "pass" or, where rewards are not 0/1, "max": what training is for.
    objectives: arm -> the metric that is largest at its best rate. For other
      arms it is training pass@k or max@k, for the k that the arm ends with.
    k_eval: at which pass@k is drawn and tabled.
    last: how many steps "train NAME" is the mean over; also the window of
      rolling means.
    summary: metrics of the table of training.
    figures: modules of experiments.paper that draw from this study.
  """

  name: str
  config: str
  arms: Mapping[str, Mapping[str, Any]]
  rates: tuple[float, ...]
  seeds: tuple[int, ...]
  seconds: float
  tuned: str = "learning_rate"
  changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  families: Mapping[str, Family] = dataclasses.field(default_factory=dict)
  rates_from: str = ""
  measure: str = "pass"
  objectives: Mapping[str, str] = dataclasses.field(default_factory=dict)
  k_eval: tuple[int, ...] = (1, 2, 4, 8, 16)
  last: int = 20
  summary: tuple[str, ...] = (
    "train pass@1",
    "train pass@8",
    "train pass@16",
    "train entropy",
    "final solve_rate",
  )
  figures: tuple[str, ...] = (
    "fig6_exploration",
    "fig7_rolling_pass_at_k",
    "fig8_stall",
    "tables",
  )

  def __post_init__(self):
    """Raises ValueError for a study that cannot be run or reported."""
    for field in ("arms", "rates", "seeds"):
      if not getattr(self, field):
        raise ValueError(f"Study {self.name!r} has no {field}; give some.")
    if not self.reported_seeds:
      raise ValueError(
        f"Study {self.name!r} tunes {len(self.rates)} rates on its only seed,"
        f" {self.seeds[0]}; give more seeds, to report."
      )
    if self.measure not in ("pass", "max"):
      raise ValueError(
        f"Study {self.name!r} has measure={self.measure!r}; it must be 'pass'"
        " or 'max'."
      )
    self._check_names("objectives", self.objectives, self.arms)
    for family in self.families.values():
      self._check_names("families", family.arms, self.arms)
      self._check_names("families", [family.rate_of], self.tuned_arms)

  def once_more(self, arms: Iterable[str]) -> "Study":
    """Some arms with another base and other problems, at the same rates.

    With six seeds: three left Figure 3 within noise on mazes.
    """
    return dataclasses.replace(
      self,
      name=f"{self.name}_again",
      changes={**self.changes, "base.seed": 1, "task.seed": 1},
      arms={arm: self.arms[arm] for arm in arms},
      families={},
      rates_from=self.name,
      seeds=(1, 2, 3, 4, 5, 6),
    )

  def _check_names(
    self, field: str, names: Iterable[str], known: Iterable[str]
  ) -> None:
    if unknown := set(names) - set(known):
      raise ValueError(
        f"Study {self.name!r} has {field} of unknown arms {sorted(unknown)};"
        f" known: {', '.join(known)}."
      )

  @property
  def reported(self) -> tuple[str, ...]:
    """Names of what is reported: families and arms of none, in order."""
    family_of = {
      arm: name for name, some in self.families.items() for arm in some.arms
    }
    return tuple(dict.fromkeys(family_of.get(arm, arm) for arm in self.arms))

  @property
  def tuned_arms(self) -> tuple[str, ...]:
    """Arms that are trained at every rate: those of no family."""
    return tuple(name for name in self.reported if name not in self.families)

  @property
  def reported_seeds(self) -> tuple[int, ...]:
    """The seeds that figures and tables are of."""
    tunes = len(self.rates) > 1 and not self.rates_from
    return self.seeds[1:] if tunes else self.seeds

  @property
  def num_runs(self) -> int:
    """How many runs the study takes, once all best rates are known."""
    tuning = 0
    if self.reported_seeds != self.seeds:
      tuning = len(self.tuned_arms) * len(self.rates)
    tuning += sum(len(family.arms) for family in self.families.values())
    # One of each family is among the reported, where the first seed is.
    if self.reported_seeds == self.seeds:
      tuning -= len(self.families)
    return tuning + len(self.reported) * len(self.reported_seeds)

  @property
  def runs_to_tune(self) -> list[Run]:
    """Arms at all rates with the first seed; none if rates are taken."""
    if self.rates_from:
      return []
    return [
      Run(arm, rate, self.seeds[0])
      for rate in self.rates
      for arm in self.tuned_arms
    ]

  def runs_of_families(self, best: Mapping[str, Run]) -> list[Run]:
    """Members of families, with the first seed, where their rate is known."""
    return [
      Run(arm, best[family.rate_of].rate, self.seeds[0])
      for family in self.families.values()
      if family.rate_of in best
      for arm in family.arms
    ]

  def runs_to_report(self, best: Mapping[str, Run]) -> list[Run]:
    """The reported seeds of the best runs, arm or family -> run."""
    return [
      run._replace(seed=seed)
      for seed in self.reported_seeds
      for run in best.values()
    ]

  def runs_needed(self, best: Mapping[str, Run]) -> set[Run]:
    """All runs that are known to be part of the study."""
    return {
      *self.runs_to_tune,
      *self.runs_of_families(best),
      *self.runs_to_report(best),
    }

  def make_config(self, run: Run) -> "ml_collections.ConfigDict":
    """The config of a run.

    Raises:
      ValueError: names the value of an arm that the config cannot take.
    """
    path, _, option = self.config.partition(":")
    module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    config = module.get_config(*filter(None, [option]))
    changes = {
      **self.changes,
      **self.arms[run.arm],
      self.tuned: run.rate,
      "seed": run.seed,
    }
    with config.unlocked():  # A model or task takes more than is listed.
      for name, value in changes.items():
        try:
          config.update_from_flattened_dict({name: value})
        except (KeyError, TypeError, ValueError) as error:
          raise ValueError(
            f"Study {self.name!r}, arm {run.arm!r}: config.{name} cannot be"
            f" {value!r}: {error}"
          ) from error
    return config

  def objective(self, arm: str) -> str:
    """The metric that is largest at the arm's best rate."""
    if arm in self.objectives:
      return self.objectives[arm]
    config = self.make_config(Run(arm, self.rates[0], self.seeds[0]))
    return f"train {self.measure}@{config.k_opt[-1]}"


def known() -> list[str]:
  """Names of the studies in this folder."""
  files = pathlib.Path(__file__).parent.glob("*.py")
  return sorted(path.stem for path in files if path.stem not in _NO_STUDIES)


def load(name: str) -> Study:
  """The study of a file in this folder, or of another module by its full name.

  Raises:
    ValueError: there is none.
  """
  if "." not in name and name not in known():
    raise ValueError(
      f"--study={name}: no such study; known: {', '.join(known())}."
    )
  module = name if "." in name else f"experiments.studies.{name}"
  try:
    study = importlib.import_module(module).STUDY
  except (ModuleNotFoundError, AttributeError) as error:
    raise ValueError(f"--study={name}: {error}.") from error
  if study.name != name:
    raise ValueError(
      f"--study={name}: that study is named {study.name!r}; let its name be"
      f" {name!r}."
    )
  return study
