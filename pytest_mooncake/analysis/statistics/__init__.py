"""The statistics that verdicts rest on: contrasts of chains, levels of looks, power, tails, drift."""
