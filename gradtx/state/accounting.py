"""The bytes of a state: by slot and by param, on arrays or on shapes."""
