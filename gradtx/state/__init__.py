"""What users do with a state: by name, the numbers in force, the params to evaluate with."""
