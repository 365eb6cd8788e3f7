"""Numbers and trees of tensors: arithmetic, reductions, selection by path, errors."""
