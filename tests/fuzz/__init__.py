"""The parsers, fed with inputs that are guided by coverage: `python -m tests.fuzz`."""
