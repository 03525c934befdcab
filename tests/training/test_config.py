"""pkpo_jax.training.config: every mistake is an error before anything runs."""

import json

import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

import pkpo_jax
from configs import countdown
from pkpo_jax.training import config as config_lib


def make_config(**changes):
  """The Countdown config, changed by "name" or "room.name"."""
  config = countdown.get_config()
  config.update_from_flattened_dict(changes)
  return config


@pytest.mark.slow
@pytest.mark.parametrize(
  "changes",
  [
    {},
    {"n": 8, "k_opt": (8,)},
    {"transform": "sloo", "k_opt": (15,)},
    {"transform": "grpo", "k_opt": (1,)},
    {"transform": "maxrl", "k_opt": (1,)},
    {"transform": "passk_training", "k_opt": (16,)},
    {"k_opt": (8, 4, 1), "k_boundaries": (10, 149)},
    {"k_opt": (8, 1), "k_boundaries": (150,), "k_schedule": "linear"},
    {"minibatches": 4, "loss.clip_high": 0.28},
    {"epochs": 2, "loss.clip_low": 1.0},
    {"loss.clip_low": 0.5, "loss.clip_high": 5.0},
    {"max_grad_norm": 0.0, "decay_steps": 140, "patience": 30},
    {"patience": 149, "warmup_steps": 150, "max_bad_steps": 0},
    {"eval.every": 0},
    {"loss.kl_coef": 0.1, "loss.entropy_coef": 0.01},
    {"transform": "k_mixture", "k_opt": (1,), "k_weights": (0.5, 0, 0.5)},
    {"transform": "pkpo_jax.transforms:scloo", "k_opt": (15,)},
    {"stop": ("\nQ:", "```"), "truncated": "wrong"},
    {"truncated": "masked"},
    {"k_schedule": "by_problem"},
    {"k_schedule": "by_problem", "k_opt": (15,), "transform": "scloo"},
    {"k_schedule": "by_problem", "k_forgetting": 0.0},
  ],
)
def test_these_are_fine(changes):
  config_lib.check(make_config(num_steps=150, **changes))


@pytest.mark.parametrize(
  "name",
  [
    "num_steps",
    "n",
    "epochs",
    "minibatches",
    "temperature",
    "prompts_per_step",
    "learning_rate",
    "eval.n",
    "checkpoint.every",
    "microbatch.rows",
  ],
)
@pytest.mark.parametrize("value", [0, -1])
def test_counts_and_rates_must_be_above_zero(name, value):
  with pytest.raises(ValueError, match=rf"config\.{name}.* above 0"):
    config_lib.check(make_config(**{name: value}))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
  "name",
  [
    "learning_rate",
    "max_grad_norm",
    "temperature",
    "loss.kl_coef",
    "base.wrong",
    "b1",
  ],
)
def test_numbers_must_be_finite(name, value):
  with pytest.raises(ValueError, match=rf"config\.{name}=.* must be a finite"):
    config_lib.check(make_config(**{name: value}))


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"seed": -1}, r"config\.seed=-1 must be an integer from 0"),
    ({"eval.seed": -3}, r"config\.eval\.seed=-3"),
    ({"base.seed": 2**31}, r"config\.base\.seed=2147483648 is out of range"),
    ({"num_steps": 10**10}, r"config\.num_steps=10{10} is out of range"),
    ({"n": 2**40}, r"config\.n=1099511627776 is out of range"),
    ({"k_opt": ()}, r"config\.k_opt=\(\) must have a k"),
    ({"b1": 1.5}, r"config\.b1=1\.5 must be at least 0 and less"),
    ({"b1": -1.0}, r"config\.b1=-1\.0"),
    ({"b2": 1.0}, r"config\.b2=1\.0"),
    ({"warmup_steps": 10**6}, r"config\.warmup_steps=1000000 .* at most"),
    ({"warmup_steps": 201}, r"config\.warmup_steps=201 .*num_steps=200"),
    (
      {"warmup_steps": 200, "decay_steps": 9},
      r"config\.decay_steps=9 has no effect: .*=200 of config.num_steps=200",
    ),
    ({"patience": 200}, r"config\.patience=200 has no effect .* of.*=200"),
    ({"logits_chunk": 10**6}, r"config\.logits_chunk=1000000 .* at most"),
    ({"k_weights": (float("nan"),)}, r"config\.k_weights=nan"),
    ({"k_weights": ("abc",)}, r"config\.k_weights=\('abc',\) must be numbers"),
    ({"k_boundaries": ("x",)}, r"config\.k_boundaries=\('x',\) must be numb"),
    ({"k_opt": (True,)}, r"config\.k_opt=\(True,\) must be numbers"),
    ({"task.name": "s3://b/x"}, r"config\.task\.name=s3.* is an address"),
  ],
)
def test_absurd_values_are_named(changes, message):
  with pytest.raises(ValueError, match=message):
    config_lib.check(make_config(**changes))


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"k_opt": (17,)}, r"config\.k_opt=\(17,\).*17.*1\.\.16"),
    ({"k_opt": (0,)}, "k must be an integer >= 1"),
    ({"transform": "sloo", "k_opt": (16,)}, r"sloo.*16.*1\.\.15"),
    ({"transform": "scloo", "k_opt": (16,)}, r"scloo.*16.*1\.\.15"),
    ({"k_opt": (8, 17), "k_boundaries": (10,)}, r"17.*1\.\.16"),
    (
      {"k_opt": (1, 20), "k_boundaries": (50,), "k_schedule": "linear"},
      r"1\.\.16",
    ),
    ({"n": 1, "k_opt": (1,)}, "sloo_minus_one.*n=1"),
    ({"n": 1, "k_opt": (1,), "transform": "rloo"}, "n >= 2"),
    ({"transform": "pkpo"}, "config.transform: Unknown .* known: dr_grpo"),
    ({"transform": "no_module:f", "k_opt": (1,)}, "'no_module:f' cannot be"),
    ({"transform": "k_mixture", "k_opt": (1,)}, "needs one weight for each k"),
    ({"k_weights": (0.5, 0.5)}, "no other transform takes any"),
    (
      {"transform": "k_mixture", "k_weights": (1.0,) * 17, "k_opt": (1,)},
      r"K in 1\.\.16",
    ),
    ({"transform": "k_mixture", "k_weights": (1.0, 1.0)}, "no effect"),
    (
      {"transform": "k_mixture", "k_weights": (0.0, 0.0), "k_opt": (1,)},
      r"config\.k_weights=\(0\.0, 0\.0\): with zeros alone",
    ),
    ({"transform": "rloo"}, r"k_opt=\(8,\) has no effect.*rloo"),
    ({"transform": "grpo"}, "no effect"),
    ({"transform": "dr_grpo", "k_opt": (2,)}, "no effect"),
    ({"transform": "maxrl", "k_opt": (2,)}, "no effect"),
    (
      {"transform": "rloo", "k_opt": (1, 1), "k_boundaries": (5,)},
      "no effect",
    ),
    ({"k_opt": (8, 1), "k_boundaries": (150,)}, "below.*num_steps=150"),
    ({"k_opt": (8, 2, 1), "k_boundaries": (9, 999)}, "below.*num_steps"),
    ({"k_opt": (8, 1)}, "2 values of k need 1 boundaries"),
    ({"k_boundaries": (3,)}, "1 values of k need 0 boundaries"),
    ({"k_opt": (8, 4, 1), "k_boundaries": (9, 9)}, "increase"),
    ({"k_opt": (8, 1), "k_boundaries": (0,)}, "increase"),
    ({"k_schedule": "linear"}, "two ks and one boundary"),
    ({"k_schedule": "cosine"}, "'piecewise', 'linear'.* or 'by_problem'"),
    (
      {"k_schedule": "by_problem", "k_opt": (8, 1), "k_boundaries": (9,)},
      "one k, the largest",
    ),
    ({"k_schedule": "by_problem", "k_opt": (17,)}, r"17.*1\.\.16"),
    (
      {"k_schedule": "by_problem", "k_opt": (1,)},
      r"'by_problem' has no effect with config\.k_opt=1",
    ),
    (
      {"k_schedule": "by_problem", "k_opt": (1,), "transform": "rloo"},
      "has no effect",
    ),
    (
      {"k_schedule": "by_problem", "k_forgetting": 1.5},
      r"config\.k_forgetting=1\.5 must be in 0\.\.1",
    ),
    ({"k_forgetting": 0.9}, r"k_forgetting=0\.9 has no effect on .*piecewise"),
    ({"minibatches": 5}, "minibatches=5 must divide.*prompts_per_step=32"),
    ({"minibatches": 64}, "must divide"),
    ({"n": 18, "minibatches": 4}, r"rows=32 must divide the 144 .*batches=4"),
    ({"microbatch.rows": 1024}, "rows=1024 must divide the 512 completions"),
    ({"truncated": "invalid"}, "'invalid' must be 'as_is', 'wrong' or"),
    ({"stop": ("a", "")}, r"config\.stop=\('a', ''\) must be a tuple"),
    ({"stop": (1,)}, r"config\.stop=\(1,\) must be a tuple"),
    ({"epochs": 2, "loss.clip_low": 0.0}, "clip_low=0.0"),
    ({"epochs": 2, "loss.clip_low": 1.1}, "clip_low=1.1"),
    ({"epochs": 2, "loss.clip_high": 0.0}, "clip_high=0.0"),
  ],
)
def test_these_are_errors(changes, message):
  with pytest.raises(ValueError, match=message):
    config_lib.check(make_config(num_steps=150, **changes))


def test_json_holds_every_value():
  config = make_config(k_opt=(8, 1))
  tree = json.loads(config_lib.to_json(config))
  assert tree["k_opt"] == [8, 1]
  assert tree["loss"]["clip_low"] == 0.2
  assert set(tree) == set(config)
  assert config_lib.to_json(config) == config_lib.to_json(
    make_config(k_opt=(8, 1))
  )


def test_json_does_not_depend_on_the_order_of_the_fields():
  one = ml_collections.ConfigDict({"a": 1, "b": {"c": 2, "d": 3}})
  other = ml_collections.ConfigDict({"b": {"d": 3, "c": 2}, "a": 1})
  assert config_lib.to_json(one) == config_lib.to_json(other)


def test_fingerprints_tell_texts_apart():
  prints = {config_lib.fingerprint(str(i)) for i in range(1_000)}
  assert len(prints) == 1_000
  assert all(len(p) == 12 and int(p, 16) >= 0 for p in prints)
  assert config_lib.fingerprint("a") == config_lib.fingerprint("a")


def test_difference_names_what_changed():
  old = make_config()
  new = make_config(**{"k_opt": (4,), "loss.clip_low": 0.1})
  with new.unlocked():
    del new.seed
    new.extra = {"deep": True}
  assert config_lib.difference(
    config_lib.to_json(old), config_lib.to_json(new)
  ) == [
    "config.extra.deep: absent -> True",
    "config.k_opt: [8] -> [4]",
    "config.loss.clip_low: 0.2 -> 0.1",
    "config.seed: 0 -> absent",
  ]
  assert (
    config_lib.difference(config_lib.to_json(old), config_lib.to_json(old))
    == []
  )


@pytest.mark.parametrize("part", ["", "loss", "base", "eval", "checkpoint"])
def test_unknown_and_missing_names_are_errors(part):
  config = make_config()
  with config.unlocked():
    room = config[part] if part else config
    room["entropy_coeff"] = 0.1
  with pytest.raises(ValueError, match=r"entropy_coeff: unknown"):
    config_lib.check(config)
  with config.unlocked():
    del room["entropy_coeff"]
    name = next(iter(room))
    del room[name]
  with pytest.raises(ValueError, match=rf"{name}: missing"):
    config_lib.check(config)


@pytest.mark.parametrize(
  ("name", "value"),
  [
    ("checkpoint.keep", 0),
    ("max_grad_norm", -1),
    ("decay_steps", -1),
    ("patience", -1),
    ("warmup_steps", -1),
    ("eval.every", -1),
    ("max_bad_steps", -1),
    ("loss.entropy_coef", -0.1),
    ("loss.kl_coef", -0.1),
    ("base.wrong", -0.1),
    ("base.wrong", 1.5),
    ("base.num_steps", 30),
  ],
)
def test_out_of_range_names_the_value(name, value):
  with pytest.raises(ValueError, match=rf"config\.{name}={value}"):
    config_lib.check(make_config(**{name: value}))


OWN = """
import jax.numpy as jnp
import numpy as np
def fine(rewards, k, *, where=None): return rewards * jnp.where(k > 1, k, 1)
def unmasked(rewards, k): return rewards
def strict(rewards, k, *, where): return rewards * where * k
def scalar(rewards, k, *, where=None): return jnp.mean(rewards)
def column(rewards, k, *, where=None): return rewards[:, None]
def ranks(rewards, k, *, where=None): return jnp.argsort(rewards)
def nothing(rewards, k, *, where=None): rewards * k
def branch(rewards, k, *, where=None): return rewards if k > 1 else -rewards
def host(rewards, k, *, where=None): return np.array(rewards) * k
def scaled(rewards, k, *, where=None): return rewards / jnp.std(rewards)
"""


@pytest.mark.parametrize(
  ("name", "problem"),
  [
    ("unmasked", r"failed with config\.n=16 \(TypeError: .*'where'"),
    ("scalar", r"floats of shape \(16,\).* returned float32 of shape \(\)"),
    ("column", r"returned float32 of shape \(16, 1\)"),
    ("ranks", r"returned int32 of shape \(16,\)"),
    ("nothing", "returned None"),
    ("branch", "failed .*TracerBoolConversionError.* inside jax.jit"),
    ("host", "failed .*TracerArrayConversionError"),
    ("scaled", "must return finite weights, but for 16 rewards of 0 and k=8"),
  ],
)
def test_a_transform_of_a_user_that_gives_no_weights_is_named(
  name, problem, tmp_path, monkeypatch
):
  (tmp_path / "own_transforms_of_a_user.py").write_text(OWN)
  monkeypatch.syspath_prepend(tmp_path)
  for fine in ("fine", "strict"):
    config_lib.check(make_config(transform=f"own_transforms_of_a_user:{fine}"))
  own = f"own_transforms_of_a_user:{name}"
  with pytest.raises(ValueError, match=f"config.transform='{own}' .*{problem}"):
    config_lib.check(make_config(transform=own))


def test_a_mixture_has_its_weights_built_in():
  config = make_config(transform="k_mixture", k_opt=(1,), k_weights=(0.0, 1.0))
  rewards = jnp.array([0.0, 1.0, 0.5, 0.25])
  where = jnp.array([True, True, True, False])
  ours = config_lib.make_transform(config)(rewards, 1, where=where)
  expected = pkpo_jax.sloo_minus_one(rewards, 2, where=where)
  np.testing.assert_allclose(ours, expected, rtol=1e-6)


@pytest.mark.parametrize(
  ("options", "expected"),
  [
    ({"k_opt": (3,)}, [3, 3, 3, 3, 3]),
    ({"k_opt": (8, 1), "k_boundaries": (2,)}, [8, 8, 1, 1, 1]),
    (
      {"k_opt": (5, 1), "k_boundaries": (2,), "k_schedule": "linear"},
      [5, 3, 1, 1, 1],
    ),
    ({"k_opt": (6,), "k_schedule": "by_problem"}, [6, 6, 6, 6, 6]),
  ],
)
def test_schedules_of_k(options, expected):
  config = ml_collections.ConfigDict(
    {"k_boundaries": (), "k_schedule": "piecewise"} | options
  )
  schedule = config_lib.make_k_schedule(config)
  assert [int(schedule(step)) for step in range(5)] == expected


@pytest.mark.parametrize(
  ("ks", "boundaries", "name"),
  [
    ((8,), (), "linear"),
    ((8, 1), (), "linear"),
    ((8, 4, 1), (5,), "linear"),
    ((8, 1), (5, 9), "linear"),
    ((8, 1), (), "piecewise"),
    ((8,), (5,), "piecewise"),
    ((8, 1), (5,), "step"),
  ],
)
def test_schedules_that_make_no_sense_are_errors(ks, boundaries, name):
  config = ml_collections.ConfigDict(
    {"k_opt": ks, "k_boundaries": boundaries, "k_schedule": name}
  )
  with pytest.raises(ValueError, match="boundar"):
    config_lib.make_k_schedule(config)
