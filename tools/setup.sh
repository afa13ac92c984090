#!/bin/sh
# Finds a Python that Outcrop runs on and hands over to bootstrap.py. Usage: tools/setup.sh demo|dev
# PYTHON=/path/to/python chooses one; otherwise the machine's own python3 comes first.
here=$(dirname "$0")
for python in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.14}; do
    if "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; then
        exec "$python" "$here/bootstrap.py" "$@"
    fi
done
echo "setup: no Python 3.11 to 3.14 found. Install one (Debian 12+, Ubuntu 24.04+: apt-get install python3 python3-venv)" \
    "or name it: make PYTHON=/path/to/python ..." >&2
exit 1
