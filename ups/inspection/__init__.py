"""What is in a file that somebody brings along, before anything is run on it. No stage imports this."""
