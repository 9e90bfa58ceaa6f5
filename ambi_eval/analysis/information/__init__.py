"""How much information predictions and states of a model hold about the votes: bits per vote, on held-out speakers."""
