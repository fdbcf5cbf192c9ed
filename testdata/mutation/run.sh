#!/usr/bin/env bash
# Runs the mutation tester gremlins over a copy of the package: about an hour
# and a half on two cores. README.md beside it has the results.
#
#     testdata/mutation/run.sh OUTPUT.json [more arguments of gremlins, such as --diff COMMIT]
#
# OUTPUT.json.slow lists the mutants that the tests beside their file did not
# end for: OUTPUT.json counts them as killed.
set -euo pipefail
output=$(realpath "$1")
shift
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
GOBIN=$work/bin go install github.com/go-gremlins/gremlins/cmd/gremlins@v0.6.0
git clone -q . "$work/tree"
cd "$work/tree"

# The suite is run a thousand times: without what takes seconds of its own and
# adds nothing here, and with what waits side by side.
sed -i 's/^func TestFileCacheSurvivesAKilledWriter(/func omittedFileCacheKill(/; s/^func TestSimulation(/func omittedSimulation(/' ./*_test.go
sed -i 's/testing.Short()/true/' filecache_unix_synctest_test.go processes_test.go
sed -i 's/^\tflag.Parse()$/&\n\tflag.Set("test.parallel", "16")/' testing_test.go
sed -i 's/^func \(TestNoExportedTypeShowsASecret\|TestUnreadableContentIsSetAside\)(t \*testing.T) {$/&\n\tt.Parallel()/' leaks_test.go transaction_test.go
git -c user.name=x -c user.email=x@x commit -qam 'suite for mutation'

# The go that gremlins calls differs from the real one twice.
#
# Go's coverage does not know of conditions in case clauses, nor of constants
# and variables of the package: gremlins would leave those mutants out. This
# go says that all is covered.
#
# For a mutant it compiles once, runs the tests that stand beside the mutant's
# file, and the whole suite only if they pass.
cat >"$work/bin/go" <<'END'
#!/usr/bin/env bash
if [[ " $* " == *' -coverprofile '* || "$1" != test ]]; then
  "$REAL_GO" "$@" || exit
  while [ $# -gt 0 ]; do
    if [ "$1" = -coverprofile ]; then
      for f in *.go; do echo "cdfauth/$f:1.1,5000.1 1 1"; done | grep -v _test.go >>"$2"
    fi
    shift
  done
  exit
fi
for f in *.go; do
  cmp -s "$f" "$TREE/$f" || mutated=$f
done
binary=$(mktemp -p "$GOTMPDIR")
trap 'rm -f "$binary"' EXIT
"$REAL_GO" test -c -o "$binary" . || exit 2
case $mutated in
  asking.go | savegrant.go) beside=signin ;;
  characters.go) beside='endpoint secret client token' ;;
  filecachewrite.go) beside='filecache filecache_unix' ;;
  filecache.go) beside='filecache filecache_unix' ;;
  flight.go) beside=refresh ;;
  guard.go) beside='transaction secret' ;;
  unusablekey.go) beside=privatekey ;;
  *) beside=${mutated%.go} ;;
esac
tests=$(for b in $beside; do cat "${b}_test.go" "${b}_synctest_test.go" 2>/dev/null; done |
  sed -n 's/^func \(Test[A-Za-z0-9_]*\)(.*/\1/p' | paste -sd '|')
if [ -n "$tests" ]; then
  said=$("$binary" -test.run "^($tests)\$" -test.failfast -test.timeout 60s 2>&1) || {
    if [[ $said == *'panic: test timed out'* ]]; then
      diff "$TREE/$mutated" "$mutated" | sed "s/^/$mutated: /" >>"$SLOW"
    fi
    exit 1
  }
fi
exec "$binary" -test.failfast -test.timeout 600s
END
chmod +x "$work/bin/go"
: >"$output.slow"
export TREE=$work/tree SLOW=$output.slow
export REAL_GO=$(command -v go) PATH=$work/bin:$PATH GOFLAGS=-vet=off GOMAXPROCS=1
gremlins unleash . -E internal/ -E example/ -E testdata/ -E 'filecache_(unix|windows|other)' \
  --workers 4 --timeout-coefficient 4 -o "$output" "$@"
