"""Compare, explain: from recordings to sentences, each with its evidence."""
