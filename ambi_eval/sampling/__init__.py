"""How the next token is chosen, reproducibly: a sample depends on its key alone, not on what is sampled beside it."""
