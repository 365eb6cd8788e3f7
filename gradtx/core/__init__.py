"""What every optimizer stands on: values, the kinds of transformation, and the executor."""
