"""python -m tcp_proxy.ctl"""

import sys

from tcp_proxy.ctl.main import main

sys.exit(main())
