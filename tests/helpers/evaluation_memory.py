"""Prints the GiB that an evaluation of the 2B takes on a chip of v5e:4x4.

Usage: python tests/helpers/evaluation_memory.py N, with 0 for greedy decoding.
"""

import sys

import jax

from configs import gemma2_2b_math
from experiments.hardware import chips, programs, report
from pkpo_jax.rl import evaluation


def main(n: int) -> None:
  report.use_topologies()
  config = gemma2_2b_math.get_config("k8")
  mesh = report.mesh_of(config, chips.topology("v5e:4x4"))
  with jax.set_mesh(mesh):
    batch = evaluation.plan_batch(
      500, n or 1, prompts=config.prompts_per_step, samples=config.n
    )
    config.update(prompts_per_step=batch.prompts, n=batch.samples)
    if not n:
      config.temperature = None
    compiled = programs.trace_sampler(config, mesh).lower().compile()
  stats = compiled.memory_analysis()
  used = (
    stats.argument_size_in_bytes
    + stats.output_size_in_bytes
    + stats.temp_size_in_bytes
    + stats.generated_code_size_in_bytes
  )
  print(f"{batch.prompts} x {batch.samples}: {used / 2**30:.2f} GiB")


if __name__ == "__main__":
  main(int(sys.argv[1]))
