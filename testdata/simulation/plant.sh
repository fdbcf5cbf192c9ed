#!/usr/bin/env bash
# Plants bugs in a copy of the package, one at a time, and shows that TestSimulation finds each. They are those that the test's comment lists.
#
#     testdata/simulation/plant.sh [number of seeds [number of a plant]]
set -euo pipefail
cd "$(dirname "$0")/../.."
seeds=${1:-400} only=${2:-} copy=$(mktemp -d) n=0 planted=0 found=0
trap 'rm -rf "$copy"' EXIT
mkdir "$copy/tree"
cp -r ./*.go go.mod go.sum internal "$copy/tree"
cd "$copy/tree"
violation='s/^\(panic\|.*_test\.go:[0-9]*\): \(seed [0-9]*: after .*\)/      \2/p'

plant() { # file, what is wrong, how it is made with sed
  n=$((n + 1))
  cp "$1" "$copy/good"
  sed -i "$3" "$1"
  if cmp -s "$1" "$copy/good"; then echo "$n. $1: $2: the line to change is not there"; exit 1; fi
  if [ -z "$only" ] || [ "$only" = "$n" ]; then
    planted=$((planted + 1)) start=$SECONDS
    if go test -vet=off -count=1 -timeout 5m -run '^TestSimulation$' -sim.seeds "$seeds" . >"$copy/out" 2>&1; then
      echo "$n. $1: $2: NOT FOUND in $seeds seeds ($((SECONDS - start)) s)"
    elif sed -n "$violation" "$copy/out" | sort -n -k 2 >"$copy/violations" && [ -s "$copy/violations" ]; then
      found=$((found + 1))
      echo "$n. $1: $2 ($((SECONDS - start)) s)"
      head -1 "$copy/violations" | cut -c 1-200
    else # it does not compile, or does not end
      head -50 "$copy/out"
      echo "$n. $1: $2: the test failed without a violation"
      exit 1
    fi
  fi
  cp "$copy/good" "$1"
}

plant cachedtoken.go 'a token serves for five seconds after its expiry' 's/now\.before(c\.dead)$/now.before(c.dead.add(5e9))/'
plant refresh.go 'who stops waiting gets the token he came with, though the clock has jumped past its expiry' 's/stillValid := .*/stillValid := w.valid/'
plant refresh.go 'a call that finds a flight under way launches another' 's/if r\.flight == nil \&\& r\.due(current, now) {/if r.due(current, now) {/'
plant cachedtoken.go 'callers wait from half of the leeway on' 's|dead\.add(-leeway / 3)|dead.add(-leeway / 2)|'
plant refresh.go 'a failed refresh takes a valid token away' 's/case stillValid:/case stillValid \&\& o != hasLanded:/'
plant flight.go 'who could leave makes the flight himself, and cannot' 's/cannotLeave := ctx\.Done() == nil/cannotLeave := true/'
plant flight.go 'the back-off begins a failure too late' 's/r\.failures >= 2 ||/r.failures > 2 ||/'
plant retry.go 'Retry-After is ignored within a flight' 's/max(backoff(try), min(retryAfter(err), retryAfterMax))/backoff(try)/'
plant refresh.go 'the gap between renewals doubles from the third refusal on' 's/r\.refusals-2, 0)/r.refusals-3, 0)/'
plant guard.go 'the goroutine of a function that was abandoned never ends' 's/make(chan error, 1)/make(chan error)/'
plant guard.go 'a panic of a function of the caller is not recovered' '/defer recovered(name, &err)/d'
plant tokenrequest.go 'a lifetime counts from the answer' 's/got, err := answer\.grant(sent, /sent = c.clock.now(); &/'
plant tokenstore.go 'a token that was asked for with other Params is taken from the cache' '/^func (s \*tokenStore) findApp/,/^}/{/extra := /d;s/e\.text("ext_cache_key") == extra$/true/}'
plant savegrant.go 'a new refresh token is kept at a sign-in alone' 's/if r\.RefreshToken == "" {/if r.RefreshToken == "" || renewed != nil {/'
plant clock.go 'the monotonic clock is not looked at' 's/return m\.wall < n\.wall \&\& .*/return m.wall < n.wall/'
if [ "$planted" = 0 ]; then echo "there are $n plants"; exit 1; fi
echo "$found of $planted found in $SECONDS s"
[ "$found" = "$planted" ]
