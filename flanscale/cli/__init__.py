"""What can be typed? The verbs of the command `flanscale`, a module for each family of them."""
