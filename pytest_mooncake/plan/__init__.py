"""From YAML and options to a frozen, validated plan."""
