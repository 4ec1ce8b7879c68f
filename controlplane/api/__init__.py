"""What is the same for every kind: requests, selectors, patches, conditions, errors."""
