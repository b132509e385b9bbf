"""What enters from outside: bounded HTTP, and checks of the size, depth, type and number of what it brings.

Whatever a server or a file says passes here once, so that everybody behind may take a number for a number, a text for
a text that can be written, and a limit for one that holds. Nothing here knows what the values mean.
"""
