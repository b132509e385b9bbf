"""What a report draws: data first, then the drawing."""
