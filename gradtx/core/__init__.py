"""What a transformation is and how it runs: the kinds, layouts of states, segments and programs."""
