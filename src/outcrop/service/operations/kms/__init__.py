"""AWS Key Management Service: keys, and what is encrypted under them."""
