"""What a study is: a config, named changes to it, rates to tune, and seeds.

A study is a file of data beside this one: STUDY = Study(...). One runner,
experiments.studies.run, trains any of them, and experiments.paper draws them.
"""

import dataclasses
import importlib
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
  import ml_collections

RESULTS = pathlib.Path("experiments/studies/results")  # of all studies
_NO_STUDIES = ("__init__", "study", "run", "results")


class Run(NamedTuple):
  """One training run of a study."""

  arm: str
  rate: float
  seed: int

  @property
  def name(self) -> str:
    """Its name in folders and files, as k8_0.0004_seed0."""
    return f"{self.arm}_{self.rate:g}_seed{self.seed}"


@dataclasses.dataclass(frozen=True)
class Study:
  """Arms of one config, compared at the best rate of each.

  Each arm is trained at every rate with the first seed. The rate at which its
  own objective is best is then trained with the other seeds, and only these
  are reported: the seed that chose the rate flatters it. With a single rate
  there is nothing to tune, and all seeds are reported.

  A metric is written "train NAME" (mean over the last steps), "final NAME"
  (last step) or "test NAME" (last evaluation on held-out problems).

  Attributes:
    name: as --study takes it: this file's, or the full name of another module.
    config: its file, an argument of `get_config` after a colon.
    arms: name -> changed values of the config, {"k_opt": (1,),
      "loss.entropy_coef": 0.01}. Paired differences are taken from the first.
    rates: values of `tuned` to choose from, for each arm by itself.
    seeds: values of `seed` in the config.
    seconds: that a run takes, for the estimate before one has finished.
    tuned: the config value that the rates are of.
    objectives: arm -> the metric that is largest at its best rate. For other
      arms it is training pass@k, for the k that the arm ends with; where
      rewards are not 0/1, the objective of training is "train max@K".
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
    if unknown := set(self.objectives) - set(self.arms):
      raise ValueError(
        f"Study {self.name!r} has objectives of unknown arms {sorted(unknown)};"
        f" known: {', '.join(self.arms)}."
      )

  @property
  def reported_seeds(self) -> tuple[int, ...]:
    """The seeds that figures and tables are of."""
    return self.seeds if len(self.rates) == 1 else self.seeds[1:]

  @property
  def runs_to_tune(self) -> list[Run]:
    """All arms at all rates with the first seed."""
    return [
      Run(arm, rate, self.seeds[0]) for rate in self.rates for arm in self.arms
    ]

  def runs_to_report(self, best: Mapping[str, float]) -> list[Run]:
    """The reported seeds of arms whose best rate is known, arm -> rate."""
    return [
      Run(arm, rate, seed)
      for seed in self.reported_seeds
      for arm, rate in best.items()
    ]

  def make_config(self, run: Run) -> "ml_collections.ConfigDict":
    """The config of a run.

    Raises:
      ValueError: names the value of an arm that the config cannot take.
    """
    path, _, option = self.config.partition(":")
    module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    config = module.get_config(*filter(None, [option]))
    changes = {**self.arms[run.arm], self.tuned: run.rate, "seed": run.seed}
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
    return f"train pass@{config.k_opt[-1]}"


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
