"""Files of other programs, read without them."""
