"""``python -m levin`` is the ``levin`` command."""

from __future__ import annotations

import sys

from levin.cli.main import main

sys.exit(main())
