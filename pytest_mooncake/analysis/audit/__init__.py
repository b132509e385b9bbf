"""Laws that figures must obey together, and what physics allows: of a run, and of a table from elsewhere."""
