"""One run: its protocol, the instruments that it measures with, the runner and the outcome."""
