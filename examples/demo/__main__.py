"""Start the demo; see story.py."""

import sys

from demo.story import main

sys.exit(main())
