"""`python -m receiver`: the receiver on granian, with the limits that a public door needs."""

from __future__ import annotations

import sys

from .serve import main

sys.exit(main())
