"""See `realuid.commands.teacher_error`."""

import sys

from realuid.commands.teacher_error import main

if __name__ == "__main__":
    sys.exit(main())
