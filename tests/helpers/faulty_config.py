"""The quick config with a task that can be made to fail."""

import ml_collections
from helpers import quick_config


def get_config() -> ml_collections.ConfigDict:
  config = quick_config.get_config()
  config.task.name = "helpers.faulty_task:Faulty"
  return config
