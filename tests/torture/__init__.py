"""What goes wrong on real machines, done on purpose: what happened, what arrived, and what was counted as lost."""
