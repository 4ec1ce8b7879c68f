"""Each node gets a range of addresses for its pods."""
