"""What a cache can serve of a layout, worked out before anything is sent."""
