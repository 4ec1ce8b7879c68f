"""What the proxy sets on the machine besides rules."""
