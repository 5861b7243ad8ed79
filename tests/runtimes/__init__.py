"""Container runtimes of the tests' own, and the CNI plugins that they run."""
