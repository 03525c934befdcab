"""Trains the base policy that a config starts from, and only that.

Example:
  python -m experiments.pretrain --config=configs/countdown.py

experiments.train does the same where no base policy for its config is found.
"""

from experiments import command_line


def main() -> None:
  """Trains the base policy, unless it is there."""
  parser = command_line.parser(__doc__)
  command_line.add_config(parser, "configs/countdown.py")
  command_line.add_base_dir(parser)
  args = command_line.parse(parser)
  from pkpo_jax.training import build_run, config

  with command_line.mistakes(parser):
    config.check(args.config)
    if args.config.base.source != "demonstrations":
      raise ValueError(
        f"config.base.source={args.config.base.source!r}: there is nothing to"
        " pretrain."
      )
    data = build_run.load_data(args.config)
  from pkpo_jax.training import pretraining

  parts = build_run.build(args.config, data)
  pretraining.train_or_load(args.config, parts, args.base_dir)


if __name__ == "__main__":
  main()
