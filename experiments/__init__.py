"""One script per table or figure of the paper, and what they share."""

import sys

if sys.argv[:1] == ["-m"]:  # Python is looking for a script of this room: Ctrl-C is one line from here on

    def _quietly(kind, error, trace, before=sys.excepthook):
        if not issubclass(kind, KeyboardInterrupt):
            before(kind, error, trace)
            return
        import os

        print("stopped; nothing was begun", file=sys.stderr, flush=True)
        os._exit(130)

    sys.excepthook = _quietly
