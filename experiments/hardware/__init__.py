"""What the TPU compiler makes of a config: memory, arithmetic, network."""
