# Sourced by run.sh and run_tests.sh from this folder (POSIX sh). It sets PYTHON to an interpreter that has every
# package of $REQUIREMENTS: the first of $PYTHON, .venv and the active python, as it is if it lacks nothing.
# Otherwise .venv is made, or completed, with three promises:
#   - a torch that works is never replaced: .venv then sees the packages of the interpreter that has it;
#   - an interrupted setup is completed by the next call;
#   - two calls at once do not disturb each other.
# pip's own settings (PIP_INDEX_URL and the like) count as always.

REQUIREMENTS=${REQUIREMENTS:-requirements.txt}
VENV_PYTHON=.venv/bin/python

say() { echo "setup: $*" >&2; }
die() { code=$1; shift; echo "error: $*" >&2; exit "$code"; }
last_line() { printf '%s\n' "$1" | tail -n 1; }

# The requirements of a file and of the files it names with -r, without comments.
requirement_lines() {
    for file in "$1" $(sed -n 's/^-r *//p' "$1"); do
        sed -e 's/ *#.*//' -e '/^-/d' -e '/^ *$/d' "$file"
    done
}

is_usable() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

torch_version() { "$1" -c 'from importlib.metadata import version; print(version("torch"))' 2>/dev/null; }

# Names of the packages that an interpreter lacks. Nothing is imported, so this takes a tenth of a second.
missing_packages() {
    requirement_lines "$REQUIREMENTS" | "$1" -c '
import re, sys
from importlib.metadata import version
for line in sys.stdin:
    name = re.match(r"[\w.-]+", line).group()
    try:
        found = version(name)
    except Exception:  # not installed, or only the half of it that an interrupted pip left
        found = None
    if not found:
        print(name)
'
}

# One setup at a time. A lock whose owner is dead is not removed by us: two waiting calls could both do it.
take_lock() {
    told=
    until mkdir .venv.lock 2>/dev/null; do
        [ -w . ] || die 1 "cannot write in $PWD"
        read -r host pid 2>/dev/null <.venv.lock/owner || host='' pid=''
        if [ "$host" = "$(uname -n)" ] && ! kill -0 "$pid" 2>/dev/null; then
            die 1 "an earlier setup (process $pid) was killed and left its lock; start again after: rm -r .venv.lock"
        fi
        [ -n "$told" ] || say "waiting for another setup (${host:-?}, process ${pid:-?}); if there is none: rm -r .venv.lock"
        told=yes
        sleep 1
    done
    trap 'rm -rf .venv.lock' EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    echo "$(uname -n) $$" >.venv.lock/owner
}

pip_install() {
    PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1 "$VENV_PYTHON" -m pip install "$@" >&2 || die 1 \
        "pip failed (see above); if the network is slow or closed, set PIP_INDEX_URL to a mirror and start again"
}

make_venv() { # interpreter
    say "making .venv with $1"
    mkdir -p .venv
    echo "$1" >.venv/made_from
    why=$("$1" -m venv --without-pip .venv 2>&1) || die 1 "$1 -m venv failed: $(last_line "$why")"
}

# Debian and Ubuntu cut ensurepip out of their python3; its pip can help, if it has one.
make_pip() { # interpreter
    "$VENV_PYTHON" -m ensurepip --default-pip >/dev/null 2>&1 ||
        "$1" -m pip --python "$VENV_PYTHON" install pip >&2 ||
        die 1 "no pip for .venv; install the venv module of your Python (Debian, Ubuntu: the package python3-venv)"
}

# Let .venv see what the interpreter sees. --system-site-packages would not do: it means the base installation,
# and the active interpreter is often a virtual or conda environment itself.
see_packages_of() { # interpreter
    "$1" -c '
import os, sys, sysconfig
standard = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), os.getcwd(), ""}
folders = [p for p in sys.path if os.path.isdir(p) and p not in standard and not p.endswith("lib-dynload")]
with open(sys.argv[1], "w", encoding="utf-8") as file:
    file.write("".join(folder + "\n" for folder in folders))
' "$("$VENV_PYTHON" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/made_from.pth"
}

imports_fail() {
    ! why=$("$VENV_PYTHON" -c 'import torch, transformers, datasets, sklearn, torchcrf, seqeval' 2>&1)
}

complete_venv() ( # interpreter; a subshell, so that exits and traps stay in here
    take_lock
    if [ -x "$VENV_PYTHON" ]; then
        made_from=$(cat .venv/made_from 2>/dev/null)
        if [ -n "$made_from" ] && [ "$1" != "$VENV_PYTHON" ] && [ "${1%/*}" != "${made_from%/*}" ]; then
            die 2 ".venv was made with $made_from, not with $1; unset PYTHON, or remove .venv first: rm -r .venv"
        fi
        [ -n "$(missing_packages "$VENV_PYTHON")" ] || exit 0 # the call we waited for did it
    else
        make_venv "$1"
        made_from=$1
    fi
    for folder in .venv/lib/python*/site-packages/*.dist-info; do
        [ -e "$folder/METADATA" ] || rm -rf "$folder" # left by an interrupted pip; the next pip would stumble over it
    done
    "$VENV_PYTHON" -m pip --version >/dev/null 2>&1 || make_pip "$1"

    # torch first and by itself, so that nothing else can choose its version.
    pinned_torch=$(requirement_lines "$REQUIREMENTS" | grep '^torch==')
    torch=$(torch_version "$VENV_PYTHON")
    if [ -z "$torch" ] && [ -n "$made_from" ] && [ -n "$(torch_version "$made_from")" ]; then
        see_packages_of "$made_from"
        torch=$(torch_version "$VENV_PYTHON")
    fi
    if [ -n "$torch" ] && ! why=$("$VENV_PYTHON" -c 'import torch' 2>&1); then
        say "the torch $torch found here does not import ($(last_line "$why")); installing $pinned_torch into .venv"
        rm -f .venv/lib/python*/site-packages/made_from.pth
        torch=
    fi
    if [ -n "$torch" ]; then
        say "torch $torch is kept"
    else
        pip_install --ignore-installed "$pinned_torch"
        torch=$(torch_version "$VENV_PYTHON")
    fi

    requirement_lines "$REQUIREMENTS" | grep -v '^torch==' >.venv/requirements.txt
    echo "torch==$torch" >.venv/constraints.txt
    pip_install -r .venv/requirements.txt -c .venv/constraints.txt
    if imports_fail && [ -e .venv/lib/python*/site-packages/made_from.pth ]; then
        # Typical: a pandas or scipy of theirs, built for numpy 1, below our numpy 2. pip cannot see that.
        say "packages of $made_from do not fit ($(last_line "$why")); installing all but torch into .venv"
        pip_install --ignore-installed -r .venv/requirements.txt -c .venv/constraints.txt
    fi
    imports_fail && die 1 "the packages are installed, but do not import: $(last_line "$why")"
    say "done"
)

if [ -n "${PYTHON:-}" ]; then
    is_usable "$PYTHON" || die 2 "PYTHON=$PYTHON is not a working Python >= 3.11"
elif [ -e "$VENV_PYTHON" ] || [ -h "$VENV_PYTHON" ]; then
    PYTHON=$VENV_PYTHON
    is_usable "$PYTHON" || die 2 "$PYTHON is not a working Python >= 3.11; remove it and start again: rm -r .venv"
else
    for PYTHON in python3 python ''; do
        if is_usable "$PYTHON"; then break; fi
    done
    [ -n "$PYTHON" ] || die 2 "no Python >= 3.11 is active; activate one, or name it: PYTHON=... sh ${0##*/}"
fi

missing=$(missing_packages "$PYTHON")
if [ -n "$missing" ]; then
    say "$PYTHON lacks:" $missing
    # An interpreter's full name; .venv's own stays relative, which is how complete_venv knows it.
    interpreter=$("$PYTHON" -c '
import os, sys
ours = os.path.isdir(".venv") and os.path.samefile(sys.prefix, ".venv")
print(sys.argv[1] if ours else sys.executable)' "$VENV_PYTHON")
    complete_venv "$interpreter" || exit $?
    PYTHON=$VENV_PYTHON
fi
