"""A share as people read it."""


def percent(share: float, digits: int = 0) -> str:
    """Write a share (0-1) as a percentage.

    >>> percent(0.6667, 1), percent(0.9)
    ('66.7 %', '90 %')
    """
    return f"{share * 100:.{digits}f} %"
