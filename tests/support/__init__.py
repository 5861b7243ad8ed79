"""What tests and bench share: a watched collector, who makes things happen, servers and runtimes of the tests' own."""
