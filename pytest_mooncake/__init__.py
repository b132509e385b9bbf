"""pytest-mooncake: prove that a KV cache pays, works and was not broken by this release."""

__all__ = ["__version__"]

__version__ = "0.1.0"
