"""What is measured or compared beside the chain: cold tax, turns with an old endpoint, the release."""
