"""What every namespace has."""
