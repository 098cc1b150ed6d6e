"""Start the demo of story.py."""

import sys

from demo.story import main

sys.exit(main())
