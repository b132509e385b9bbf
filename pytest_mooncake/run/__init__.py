"""One run: the protocol as prose, the instruments it is played on, who runs it and what comes out."""
