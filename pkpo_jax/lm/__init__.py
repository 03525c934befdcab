"""The policy: a Gemma from the gemma package, sampled and scored by token."""
