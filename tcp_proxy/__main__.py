"""`python -m tcp_proxy`."""

import sys

from tcp_proxy.cli import main

sys.exit(main())
