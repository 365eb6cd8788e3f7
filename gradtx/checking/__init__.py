"""The laws of transformations that need no oracle, for rules of your own."""
