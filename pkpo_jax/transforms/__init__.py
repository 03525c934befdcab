"""Rewards [n] of one problem -> one policy-gradient weight per sample [n]."""

from pkpo_jax.transforms.pkpo import *  # noqa: F403
