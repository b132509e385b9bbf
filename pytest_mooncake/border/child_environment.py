"""What a child process of ours gets of the environment: what it needs, and no secret of whoever started us."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

OF_THE_SYSTEM = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "LC_MESSAGES", "LC_NUMERIC"),
        *("TZ", "TMPDIR", "TEMP", "TMP", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "VIRTUAL_ENV"),
        *("LD_LIBRARY_PATH", "LD_PRELOAD", "SSL_CERT_FILE", "SSL_CERT_DIR", "MALLOC_ARENA_MAX"),
    }
)
"""What any process may need to find its parts and to speak the user's language."""


OF_PYTHON = frozenset(
    {
        *("PYTHONPATH", "PYTHONHOME", "PYTHONHASHSEED", "PYTHONUTF8", "PYTHONIOENCODING", "PYTHONUNBUFFERED"),
        *("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX", "PYTHONNOUSERSITE", "PYTHONUSERBASE", "PYTHONSAFEPATH"),
        *("PYTHONWARNINGS", "PYTHONFAULTHANDLER", "PYTHONMALLOC", "PYTHONDEVMODE", "PYTHONASYNCIODEBUG", "PYTHON_GIL"),
        *("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG", "COVERAGE_FILE", "COVERAGE_RCFILE"),
        *("COV_CORE_SOURCE", "COV_CORE_CONFIG", "COV_CORE_DATAFILE"),
    }
)
"""What one of our own Python processes takes over, a coverage measurement of it included."""


_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASS|CRED|AUTH|HEADER|COOKIE", re.IGNORECASE)


def inherited(*prefixes: str, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a child process of ours gets of the environment: what it needs, and no secret of whoever started us.

    Keys and headers of endpoints reach those children that send them through a pipe.

    Args:
        prefixes: of further variables that this child reads, such as `MC_`; never those named like a secret.
        environ: the environment; that of this process unless given.

    >>> inherited("MC_", environ={"PATH": "/bin", "MC_LOG_LEVEL": "1", "MC_TOKEN": "x", "HF_TOKEN": "y", "KEY": "z"})
    {'PATH': '/bin', 'MC_LOG_LEVEL': '1'}
    """
    given = os.environ if environ is None else environ
    return {
        name: value
        for name, value in given.items()
        if name in OF_THE_SYSTEM | OF_PYTHON or (name.startswith(prefixes) and not _SECRET.search(name))
    }
