"""One script per table or figure of the paper, and what they share."""
