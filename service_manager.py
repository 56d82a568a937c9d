"""Run Futu's services apart from the shell.

``python service_manager.py start|stop|restart|status [redis|compute|controller|all] [options]``
"""

from __future__ import annotations

from run import main

if __name__ == "__main__":
    main("service_manager.py", "futu.service_manager", "service_manager_py")
