"""What each family owes, as functions that raise AssertionError; contract tests and negative controls call them."""
