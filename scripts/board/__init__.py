"""What `scripts/leaderboard.py` is made of, one concept a file."""
