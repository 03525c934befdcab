"""The tiny config from random parameters: nothing to train before."""

import ml_collections
from helpers import tiny_config


def get_config() -> ml_collections.ConfigDict:
  config = tiny_config.get_config()
  config.base = ml_collections.ConfigDict({"source": "random", "seed": 0})
  return config
