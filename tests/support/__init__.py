"""What tests, torture and bench share: a watched collector, a recorded one, and who makes things happen."""
