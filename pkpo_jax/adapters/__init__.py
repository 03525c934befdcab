"""PKPO inside other people's trainers."""

from pkpo_jax.adapters.any_trainer import group_advantages

__all__ = ("group_advantages",)
