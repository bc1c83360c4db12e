# Sourced by the scripts one directory up: finds Python, makes a virtual environment of the checkout, runs a tool in it.
# Needs nothing on PATH but a Python.

set -eu
unset CDPATH PYTHONPATH PYTHONHOME VIRTUAL_ENV
root=$(cd "${0%"${0##*/}"}./.." && pwd -P)

find_python() {
    for python in python3.11 python3.12 python3.13 python3.14 python3; do
        if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            return
        fi
    done
    echo "${0##*/}: Python 3.11 or newer is needed, and none is on PATH." >&2
    exit 2
}

# run_tool ENVIRONMENT EXTRA TOOL [ARGUMENTS]: EXTRA is an extra of pyproject.toml, or nothing.
run_tool() {
    environment=$root/$1 extra=$2 tool=$root/scripts/tools/$3
    shift 3
    find_python
    "$python" -I "$root/scripts/tools/environment.py" "$environment" "$extra"
    exec "$environment/bin/python" "$tool" "$@"
}
