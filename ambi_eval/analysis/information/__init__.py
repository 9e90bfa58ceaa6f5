"""How much predictions and states tell about the votes, in bits per vote, on speakers that no fit has seen."""
