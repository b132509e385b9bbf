"""A round sent by several processes: who sends what, and how it comes back together."""
