"""What is committed and what is left to do."""
