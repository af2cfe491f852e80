#!/bin/sh
# Runs a Python of version 3.11 or newer with the arguments given; says so in one line when there is none. Versions up
# to 3.13, for which every locked package has a wheel, are preferred. PYTHON=... chooses one by name or path.
fit() {
    command -v "$1" >/dev/null 2>&1 &&
        "$1" -c "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, ${2:-999}))" >/dev/null 2>&1
}

if [ -n "${PYTHON:-}" ]; then
    fit "$PYTHON" && exec "$PYTHON" "$@"
    echo "neurosight: PYTHON=$PYTHON is not a Python of version 3.11 or newer: name another one, or leave PYTHON unset." >&2
    exit 1
fi
for newest in 13 999; do
    for name in python3 python3.13 python3.12 python3.11 python3.14; do
        fit "$name" "$newest" && exec "$name" "$@"
    done
done
found=$(python3 --version 2>/dev/null) || found="no python3"
echo "neurosight: found $found; Python 3.11 or newer is needed: install it, or run make with PYTHON=/path/to/python3." >&2
exit 1
