"""Exports a policy of a run, to be served, evaluated or trained elsewhere.

Example:
  python -m experiments.export --workdir=runs/2b_math --out=out/gemma-2-2b-pkpo

Writes a folder that `transformers`, vLLM and others load, in the type that the
model computes in, with the tokenizer, chat template and stop tokens that the
run was trained with. What else the folder says that it began with, such as the
context length, is taken from there. Adapters of LoRA are added to the
parameters that they adapt. --format=gemma writes a checkpoint of gemma's own
library instead.
"""

import argparse
from typing import TYPE_CHECKING

from experiments import command_line

if TYPE_CHECKING:
  from pkpo_jax.training import build_run, evaluation_request


def main() -> None:
  """Loads, merges and writes."""
  parser = _parser()
  args = command_line.parse(parser)
  import jax

  from pkpo_jax import multihost
  from pkpo_jax.lm import sharding
  from pkpo_jax.training import build_run, evaluation_request

  with command_line.mistakes(parser):
    if args.distributed:
      multihost.initialize()
  with command_line.mistakes(parser), multihost.ending_together():
    if args.out.exists():
      raise ValueError(f"--out={args.out} is there already; name a new folder.")
    request = evaluation_request.make_request(args.workdir, args.changes or {})
    (step,) = evaluation_request.choose_steps(args.workdir, [args.step])
    data = build_run.load_data(request.config)
    mesh = sharding.make_mesh(**request.config.mesh)
  with jax.set_mesh(mesh), multihost.ending_together():
    _export(args, request, data, step)
  if multihost.is_first():
    print(f"The policy after {step} steps is in {args.out}")


def _parser() -> argparse.ArgumentParser:
  from pkpo_jax.training import evaluation_request

  parser = command_line.parser(__doc__)
  add = parser.add_argument
  add(
    "--workdir", type=command_line.path, required=True, help="a training run's"
  )
  add("--out", type=command_line.path, required=True, help="a new folder")
  add(
    "--step",
    default="latest",
    help="steps that the policy has taken: 0 is the base policy, latest the"
    " newest checkpoint (default: latest)",
  )
  add(
    "--format",
    choices=("huggingface", "gemma"),
    default="huggingface",
    help="of the folder (default: huggingface)",
  )
  command_line.add_base_dir(parser)
  command_line.add_distributed(parser)
  command_line.add_changes(parser, evaluation_request.CHANGEABLE)
  return parser


def _export(
  args: argparse.Namespace,
  request: "evaluation_request.Request",
  data: "build_run.Data",
  step: int,
) -> None:
  from pkpo_jax.lm import formats, lora, models, tokenizers
  from pkpo_jax.training import build_run, saved_policy

  config = request.config
  parts = build_run.build(config, data)
  policy = saved_policy.load(args.workdir, step, config, parts, args.base_dir)
  model, params = lora.merge(parts.model, models.merge(*policy))
  if args.format == "gemma":
    formats.save_gemma(model, models.compute_params(model, params), args.out)
  else:
    used = data.tokenizer
    formats.save_huggingface(
      model,
      params,
      args.out,
      source=build_run.model_folder(config),
      tokenizer=used if isinstance(used, tokenizers.GemmaTokenizer) else None,
    )


if __name__ == "__main__":
  main()
