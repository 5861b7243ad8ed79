"""Where recorded events come from."""
