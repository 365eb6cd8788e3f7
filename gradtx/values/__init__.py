"""What a recorded call is: values, their factories, domains and configs, and programs of them."""
