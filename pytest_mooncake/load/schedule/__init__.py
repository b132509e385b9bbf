"""When requests are sent: arrivals, pacing, conversations in turns."""
