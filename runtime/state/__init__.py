"""What survives the daemon: pods and containers as rows of an SQLite file, and in memory."""
