"""The policy: a Gemma, its sampler, its log-probs, its place on devices."""
