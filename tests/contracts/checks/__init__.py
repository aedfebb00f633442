"""What each family owes, as functions that raise AssertionError: the contract tests call them, so do the negative controls."""
