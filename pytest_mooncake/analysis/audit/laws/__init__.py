"""The laws one by one, and how exact printed figures are."""
