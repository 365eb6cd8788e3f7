"""What an optimizer does, in words: its stages, formulas, numbers and groups."""
