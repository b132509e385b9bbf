"""The `--mooncake-*` options: declared once (`declared`), given to pytest and read from it (`command_line`).

The reference page is made from the same declarations (`page`).
"""

from pytest_mooncake.plan.options.command_line import add_options, invocation_dir, options_of
from pytest_mooncake.plan.options.declared import DECLARED, Declared, Options, Value

__all__ = ["DECLARED", "Declared", "Options", "Value", "add_options", "invocation_dir", "options_of"]
