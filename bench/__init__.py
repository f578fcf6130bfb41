"""Speed and quality beside other ways to run the same attack. ``make bench`` runs it."""
