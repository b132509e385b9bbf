"""Where a plan comes from: YAML files, other people's figures, names that are looked up."""
