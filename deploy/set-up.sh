#!/bin/sh
# Makes the environment from requirements.lock: every file is checked against the hash that is written there.
# usage: set-up.sh PYTHON FOLDER
set -eu
python=$1
venv=$2
lock=requirements.lock

fail() {
    printf 'error: %s\n  %s\n' "$1" "$2" >&2
    exit 1
}

command -v "$python" >/dev/null 2>&1 ||
    fail "there is no $python" "Install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3 up"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$python is $("$python" -V 2>&1), but Fairlead needs Python 3.11 or newer" \
        "Install one, or name one: make PYTHON=/path/to/python3.11 up"
grep -q '^uv==[^ ]* \\$' "$lock" ||
    fail "$lock is missing or broken: it names no uv" "Restore it from the repository."
free=$(df -Pk . | awk 'NR == 2 {print int($4 / 1024)}')
[ "$free" -ge 2500 ] ||
    fail "the disk is full: $free MiB are free here, setting up needs 2500" "Free some room."

if ! "$venv/bin/python" -c 'import pip' >/dev/null 2>&1; then
    echo "making $venv with $("$python" -V)"
    rm -rf "$venv"
    "$python" -m venv "$venv" ||
        fail "$python cannot make a virtual environment" "On Debian and Ubuntu: apt install python3-venv"
fi

# uv first, by pip, with the hashes of the lock file.
only_uv=$(mktemp)
trap 'rm -f "$only_uv"' EXIT
awk '/^uv==/ {on = 1} on {print} on && !/\\$/ {exit}' "$lock" >"$only_uv"
wanted=$(sed -n 's/^uv==\([^ ;]*\).*/\1/p' "$only_uv")
if [ "$("$venv/bin/uv" --version 2>/dev/null | cut -d' ' -f2)" != "$wanted" ]; then
    "$venv/bin/python" -m pip install -q --disable-pip-version-check --require-hashes --no-deps -r "$only_uv" ||
        fail "cannot install uv $wanted" "Check the network; a hash that does not fit means that $lock was changed."
fi

echo "installing what $lock names"
VIRTUAL_ENV=$PWD/$venv "$venv/bin/uv" pip sync -q --require-hashes --compile-bytecode "$lock" ||
    fail "cannot install what $lock names" "Check the network; for a broken $lock restore it from the repository."

# The project itself, from this folder, built by the hatchling of the lock file.
VIRTUAL_ENV=$PWD/$venv "$venv/bin/uv" pip install -q --no-deps --no-build-isolation --editable . ||
    fail "cannot install the project itself" "Restore pyproject.toml from the repository."
"$venv/bin/python" -c 'import services.kit, deploy, contracts, fairlead' ||
    fail "the project is not on the path of $venv" "Remove $venv and run the command again."
