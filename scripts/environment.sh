# Sourced by start.sh and test.sh, from the folder of the checkout; POSIX sh.
#
#   make_environment VENV runtime   VENV holds Futu and what it runs with
#   make_environment VENV dev       VENV holds the tools of the tests as well
#
# VENV/.futu-installed records what was installed, so a second call has nothing to do.

fail() {
    printf '%s\n' "$*" >&2
    exit 1
}

# Whether a Python can be run and is recent enough. A name on the PATH says neither.
python_serves() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

# Sets found_python.
find_python() {
    if [ -n "${FUTU_PYTHON:-}" ]; then
        python_serves "$FUTU_PYTHON" ||
            fail "FUTU_PYTHON is '$FUTU_PYTHON', which is not a Python 3.11 or later that runs."
        found_python=$FUTU_PYTHON
        return
    fi
    for found_python in python3.13 python3.12 python3.11 python3 python; do
        if python_serves "$found_python"; then
            return
        fi
    done
    fail "Futu needs Python 3.11 or later and found none; install one, or name it in FUTU_PYTHON."
}

# What an environment made now would hold. The folder counts: the install points at its sources.
environment_sum() {
    { pwd -P && cat pyproject.toml constraints.txt; } | cksum
}

# Whether a venv can be installed into: a half-made one cannot.
venv_serves() {
    python_serves "$1/bin/python" || return 1
    [ "$use_uv" = yes ] || "$1/bin/python" -m pip --version >/dev/null 2>&1
}

create_venv() {
    find_python
    rm -rf "$1" || fail "The unusable environment $1 could not be removed."
    if [ "$use_uv" = yes ]; then
        uv venv --quiet --python "$found_python" "$1" >&2 && return
    else
        "$found_python" -m venv "$1" >&2 && return
    fi
    rm -rf "$1"
    fail "$found_python could not make the environment $1 (Debian and Ubuntu need python3-venv)."
}

install_into() {
    if [ "$2" = dev ]; then
        set -- "$1" --group dev
    else
        set -- "$1"
    fi
    venv_python=$1/bin/python
    shift
    if [ "$use_uv" = yes ]; then
        uv pip install --quiet --python "$venv_python" -e . -c constraints.txt "$@" >&2
        return
    fi
    if [ $# -gt 0 ] && ! "$venv_python" -m pip install --help | grep -q -e '--group'; then
        "$venv_python" -m pip install --quiet --upgrade 'pip>=25.1' >&2 || return
    fi
    "$venv_python" -m pip install --quiet --disable-pip-version-check \
        -e . -c constraints.txt "$@" >&2
}

make_environment() {
    wanted_sum=$(environment_sum)
    stamp=$1/.futu-installed
    if [ -f "$stamp" ] && python_serves "$1/bin/python"; then
        case $(cat "$stamp") in
            "$2 $wanted_sum" | "dev $wanted_sum") return ;;
        esac
    fi

    use_uv=no
    if uv --version >/dev/null 2>&1; then
        use_uv=yes
    fi
    printf '%s\n' "Making the environment $1; the first time takes some minutes." >&2
    venv_serves "$1" || create_venv "$1"
    rm -f "$stamp"
    install_into "$1" "$2" || fail "Installing Futu into $1 failed; the lines above say why."
    printf '%s\n' "$2 $wanted_sum" >"$stamp"
}
