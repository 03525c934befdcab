"""experiments.hardware: its counting by hand, and the compiler for real."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, AxisType

from configs import gemma2_2b_math, gemma2_9b_math
from experiments.hardware import chips, flops, hlo, programs
from pkpo_jax.lm import sharding

ROOT = pathlib.Path(__file__).parents[3]

HLO = """
%fused.1 (p0: f32[8]) -> f32[32] {
  %ag.1 = f32[32]{0} all-gather(%p0), channel_id=7, replica_groups=[2,4]<=[8]
}
%fused.2 (p0: f32[8]) -> f32[32] {
  %ag.2 = f32[32]{0} all-gather(%p0), channel_id=7, replica_groups=[2,4]<=[8]
}
%scan_body (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %rs = bf16[8]{0} reduce-scatter(%x), channel_id=2, replica_groups={{0,1,2,3}}
}
%scan_cond (p: s32[]) -> pred[] {
  %three = s32[]{:T(128)} constant(3)
}
%decode_cond (p: s32[]) -> pred[] {
  %ten = s32[] constant(10)
  %done = pred[] all-reduce(%x), channel_id=3, replica_groups=mesh['data'=2,'fsdp'=4] {'data','fsdp'}, to_apply=%add
}
%decode_body (p: s32[]) -> s32[] {
  %w.2 = (s32[]) while(%y), condition=%scan_cond, body=%scan_body
}
ENTRY %main (a: f32[8]) -> f32[8] {
  %f1 = f32[32] fusion(%a), kind=kLoop, calls=%fused.1
  %f2 = f32[32] fusion(%a), kind=kLoop, calls=%fused.2
  %w = (s32[]) while(%x), condition=%decode_cond, body=%decode_body
  %cp = (f32[4], f32[4], u32[]) collective-permute-start(%a), channel_id=9, source_target_pairs={{0,1}}
}
"""  # noqa: E501


def test_collectives_are_counted_once_a_channel_and_multiplied_by_loops():
  found = hlo.collectives(HLO, decode_steps=10)
  assert found == {
    # 32 floats among 4 chips: 3/4 of 128 bytes are sent on.
    "all-gather": hlo.Collective(1, 0, 96.0, 0.0, 1.0),
    # 3 in a loop within a loop of 10; 16 bytes, 4 chips.
    "reduce-scatter": hlo.Collective(30, 30, 30 * 16 * 3.0, 0.0, 30.0),
    # 8 chips: twice the hops of 4.
    "all-reduce": hlo.Collective(10, 10, 10 * 2 * 7 / 8, 0.0, 20.0),
    "collective-permute": hlo.Collective(1, 0, 16.0, 0.0, 1.0),
  }


def test_a_loop_that_data_may_end_runs_a_share_of_its_longest():
  early = HLO.replace(
    "%done = pred[] all", "%go = pred[] and(%a, %b)\n  %done = pred[] all"
  )
  found = hlo.collectives(early, decode_steps=10, share=0.25)
  assert found["reduce-scatter"].runs == 3 * 3
  assert found["all-gather"].runs == 1
  assert hlo.collectives(HLO, share=0.25) == hlo.collectives(HLO)


def test_an_all_reduce_of_which_each_keeps_its_part_is_a_reduce_scatter():
  fused = """
%all-reduce-scatter.2.clone (p: f32[8]) -> f32[2] {
  %ar = f32[8]{0} all-reduce(%p), channel_id=1, replica_groups=[2,4]<=[8]
}
ENTRY %main (a: f32[8]) -> f32[2] {
  %c = f32[2] fusion(%a), kind=kCustom, calls=%all-reduce-scatter.2.clone
}
"""
  expected = hlo.Collective(1, 0, 32 * 3 / 4, 0.0, 1.0)
  assert hlo.collectives(fused) == {"reduce-scatter": expected}


# Lengths of a microbatch: one of them runs, and in it a loop.
BRANCHES = """
%short (p: f32[8]) -> f32[8] {
  %ar = f32[8]{0} all-reduce(%p), channel_id=1, replica_groups=[2,4]<=[8]
}
%body (p: s32[]) -> s32[] {
  %ar.2 = f32[4]{0} all-reduce(%p), channel_id=2, replica_groups=[2,4]<=[8]
}
%long (p: f32[8]) -> f32[8] {
  %v = (s32[]) while(%x), condition=%c, body=%body, backend_config={"known_trip_count":{"n":"5"}}
}
ENTRY %main (a: f32[8]) -> f32[8] {
  %c = f32[8] conditional(%i, %a, %a), branch_computations={%short, %long}
}
"""  # noqa: E501


def test_of_branches_the_one_that_sends_most_is_counted():
  found = hlo.collectives(BRANCHES)
  assert found["all-reduce"].runs == 5
  assert found["all-reduce"].bytes == 5 * 2 * 16 * 3 / 4


# What the GPU compiler writes: bounds in a fusion, operands before results.
GPU_HLO = """
%fused_and (p: pred[]) -> pred[] {
  %c = s32[] constant(10)
}
%cond (p: s32[]) -> pred[] {
  ROOT %f = pred[] fusion(%p), kind=kLoop, calls=%fused_and
}
%body (p: s32[]) -> s32[] {
  %ar = ((f32[8]{0}, f32[4]{0}), f32[8]{0}, f32[4]{0}) all-reduce-start(%x, %y), channel_id=1, replica_groups=[4,2]<=[2,4]T(1,0)
}
%scan (p: s32[]) -> s32[] {
  %ag = ((bf16[2,4]{1,0:T(8,128)}, f32[2]{0}), (bf16[2,16]{1,0}, f32[8]{0})) all-gather-start(%x, %y), channel_id=2, replica_groups={{0,1,2,3},{4,5,6,7}}
}
ENTRY %main (a: f32[8]) -> f32[8] {
  %w = (s32[]) while(%x), condition=%cond, body=%body
  %v = (s32[]) while(%x), condition=%other, body=%scan, backend_config={"known_trip_count":{"n":"5"}}
}
"""  # noqa: E501


def test_collectives_of_gpus_say_whether_they_leave_a_host():
  found = hlo.collectives(GPU_HLO, decode_steps=10, neighbours=4)
  assert found == {
    # 12 floats among chips 0 and 4, which are on two hosts.
    "all-reduce": hlo.Collective(10, 10, 480.0, 480.0, 10.0),
    # 64 + 32 bytes, of which 3/4 come from others of the same host.
    "all-gather": hlo.Collective(5, 0, 5 * 72.0, 0.0, 5.0),
  }


def test_operations_are_multiplied_by_loops():
  def f(x, w):
    def body(x, _):
      return x @ w, None

    x, _ = jax.lax.scan(body, x, None, length=5)
    _, x = jax.lax.while_loop(
      lambda carry: (carry[0] < 7) & ~jnp.any(jnp.isnan(carry[1])),
      lambda carry: (carry[0] + 1, carry[1] @ w),
      (0, x),
    )
    return jax.jit(lambda x: jnp.einsum("ab,cb->ac", x, x))(x)

  jaxpr = jax.make_jaxpr(f)(jnp.ones((2, 3)), jnp.ones((3, 3)))
  one, last = 2 * 2 * 3 * 3, 2 * 2 * 2 * 3
  assert flops.count(jaxpr) == 12 * one + last
  assert flops.count(jaxpr, once=True) == 2 * one + last
  assert flops.count(jaxpr, share=0.25) == (5 + 2) * one + last
  assert flops.count(jaxpr, once=True, share=0.0) == one + last


def test_rows_that_leave_the_sampler_add_nothing_to_the_longest_run():
  """On one device the rest goes on in loops of its own."""

  def operations(n):
    config = gemma2_2b_math.get_config("k8,laptop")
    config.update(prompts_per_step=4, n=n, max_new_tokens=65)
    mesh = sharding.make_mesh(1, 1, 1, devices=jax.devices()[:1])
    with jax.set_mesh(mesh):
      return flops.count(programs.trace_sampler(config, mesh).jaxpr)

  few, many, more = (operations(n) for n in (2, 4, 6))  # from 16 rows on
  assert more - many == many - few


def test_a_loop_of_unknown_length_is_an_error():
  def f(x):
    return jax.lax.while_loop(lambda x: x.sum() < x.max(), lambda x: x @ x, x)

  with pytest.raises(ValueError, match="compare its counter"):
    flops.count(jax.make_jaxpr(f)(jnp.ones((2, 2))))


def test_a_sampler_whose_chips_repeat_each_other_is_an_error(monkeypatch):
  mesh = AbstractMesh(
    (8, 16, 1), sharding.AXES, axis_types=(AxisType.Auto,) * 3
  )
  monkeypatch.setattr(jax.sharding, "get_mesh", lambda: mesh)
  config = gemma2_2b_math.get_config("k8")
  config.n = 4
  with pytest.raises(ValueError, match=r"config.n=4\) .* computed 8 times"):
    programs.trace_sampler(config, mesh)


def test_an_unknown_chip_is_named():
  with pytest.raises(ValueError, match=r"'v9:2x2'; known: .*v5e"):
    chips.topology("v9:2x2")


@pytest.mark.parametrize("name", ["v5e", "v5e:4", "h100:8", "h100:0x8"])
def test_a_topology_has_its_sides(name):
  with pytest.raises(ValueError, match=f"'{name}' needs its sides"):
    chips.topology(name)


def test_a_topology_knows_its_neighbours():
  assert chips.topology("v5e:8x16").neighbours == 128
  assert chips.topology("h100:4x8").neighbours == 8
  assert chips.topology("h100:4x8").size == 32


@pytest.mark.slow
@pytest.mark.parametrize(
  ("config", "sizes"),
  [(gemma2_2b_math, (8, 4, 4)), (gemma2_9b_math, (4, 4, 8))],
)
def test_nothing_large_is_on_every_chip(config, sizes):
  """Of the whole state, only the scales of norms: a few thousandths."""
  mesh = AbstractMesh(sizes, sharding.AXES, axis_types=(AxisType.Auto,) * 3)
  kept = programs.arrays(config.get_config("k8"), mesh)
  rows = [row for part in kept.values() for row in part]
  whole = sum(r.bytes_per_device for r in rows if r.replicas == mesh.size)
  assert whole < 3e-3 * sum(r.bytes_per_device for r in rows)
  for row in rows:
    if row.replicas == mesh.size:
      assert "scale" in row.name or row.bytes_per_device <= 4, row
    else:
      # Parameters are split over fsdp and tensor; data holds copies.
      assert row.replicas == sizes[0], row


def compile_apart(*options, timeout=1500):
  return subprocess.run(
    [sys.executable, "-m", "experiments.hardware", *options],
    cwd=ROOT,
    env=os.environ | {"JAX_PLATFORMS": "cpu"},
    capture_output=True,
    text=True,
    timeout=timeout,
    check=False,
  )


@pytest.mark.slow
@pytest.mark.libtpu
def test_a_mesh_that_does_not_fit_the_slice_is_an_error():
  result = compile_apart("--topology=v5e:2x2", "--config.mesh.fsdp=3")
  assert result.returncode == 2
  assert "does not cover 4 devices" in result.stdout + result.stderr


@pytest.mark.slow
@pytest.mark.libtpu
def test_an_axis_of_the_mesh_may_split_a_side_of_the_torus():
  """tensor = 8 on 4 x 4 x 4 chips: two sides, one of them in half."""
  config = "--config=configs/gemma2_9b_math.py"
  result = compile_apart(config, "--topology=v5p:4x4x4", "--arrays")
  assert result.returncode == 0, result.stderr
  assert "64 chips as data 2 x fsdp 4 x tensor 8" in result.stdout


ABOUT_2B = pytest.mark.verify(
  "configs/gemma2.py",
  "configs/gemma2_2b_math.py",
  "experiments/hardware",
  "pkpo_jax/lm",
  "pkpo_jax/rl",
)


@pytest.mark.libtpu
@ABOUT_2B
def test_what_does_not_fit_into_memory_is_an_error_with_a_remedy():
  """A tiny model, but a cache of 16 x 4096 x 16k tokens."""
  result = compile_apart(
    "--config=configs/gemma2_2b_math.py:laptop",
    "--topology=v5e:2x2",
    "--config.prompts_per_step=4096",
    "--config.max_new_tokens=16384",
  )
  assert result.returncode == 1, result.stdout + result.stderr
  assert "The sampler does not fit on v5e:2x2" in result.stderr
  assert "lower config.prompts_per_step" in result.stderr


SMALL = (
  "--config=configs/gemma2_2b_math.py:k4,laptop",
  "--config.model.num_layers=1",
  "--config.model.embed_dim=256",
  "--config.model.hidden_dim=512",
  "--config.prompts_per_step=4",
  "--config.n=4",
  "--config.microbatch.rows=8",
  "--config.max_prompt_tokens=64",
)


@pytest.mark.slow
@pytest.mark.libtpu
def test_a_small_model_is_split_over_4_chips(tmp_path):
  """What the 2B on 16 chips has to show, in seconds."""
  sampler, update = compiled_apart(tmp_path, "--topology=v5e:2x2", *SMALL)
  check_programs(sampler, update)


@pytest.mark.gpu_compiler
@pytest.mark.verify(
  "experiments/hardware", "pkpo_jax/lm", "pkpo_jax/rl", "requirements.lock"
)
def test_a_small_model_is_split_over_4_cards(tmp_path):
  """Two hosts of two: what they send each other is told apart."""
  sampler, update = compiled_apart(tmp_path, "--topology=h100:2x2", *SMALL)
  check_programs(sampler, update, memory=80e9)
  gradients = update["collectives"]["all-reduce"]
  assert gradients["bytes"] == gradients["between_hosts"] > 0
  kinds = update["collectives"].values()
  between = sum(x["between_hosts"] for x in kinds)
  within = sum(x["bytes"] for x in kinds) - between
  expected = between / 50e9 + within / 450e9
  assert update["all"]["network"] == pytest.approx(expected)


@pytest.mark.gpu_compiler
@ABOUT_2B
@pytest.mark.timeout(1600)
def test_the_2b_fits_on_8_h100(tmp_path):
  """docs/hardware.md says so."""
  compiled = compiled_apart(
    tmp_path,
    "--topology=h100:1x8",
    "--config.mesh.fsdp=8",
    "--config.mesh.tensor=1",
  )
  check_programs(*compiled, memory=0.92 * 80e9)


@pytest.mark.libtpu
@ABOUT_2B
@pytest.mark.timeout(1600)
def test_the_2b_fits_on_16_chips_of_v5e(tmp_path):
  """With two collectives a layer and token in decoding, and a few to draw."""
  sampler, update = compiled_apart(tmp_path, "--topology=v5e:4x4")
  in_decode = sum(x["in_decode"] for x in sampler["collectives"].values())
  assert 2 * 26 * 1023 <= in_decode <= (2 * 26 + 8) * 1023
  for program in (sampler, update):
    assert program["memory"]["total"] < 15.75 * 2**30
    assert program["replication"] < 1.3


def compiled_apart(tmp_path, *options):
  """What the command reports of the sampler and of the update."""
  out = tmp_path / "programs.json"
  result = compile_apart(*options, f"--json={out}")
  assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
  return json.loads(out.read_text())


def check_programs(sampler, update, memory=15.75 * 2**30):
  """They fit, no chip repeats others' work, and decoding sends but its end."""
  assert sampler["memory"]["total"] < memory
  assert update["memory"]["total"] < memory
  kinds = sampler["collectives"]
  in_decode = {kind for kind, x in kinds.items() if x["in_decode"]}
  assert in_decode == {"all-reduce"}
  assert kinds["all-reduce"]["bytes"] < 1e6
  for program in (sampler, update):
    assert (program["replication"] or 1.0) < 1.3
