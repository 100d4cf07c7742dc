"""State, step, loop, phases and checkpoints."""
