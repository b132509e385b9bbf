"""From a recorded run to what people read."""
