#!/usr/bin/env bash
# Tries the tests by mutants: about half an hour on two cores. README.md beside it has
# the results.
#
#     testdata/mutation/run.sh >OUTPUT
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
git clone -q . "$work/original"
cd "$work/original"

# The suite is run a thousand times: without what takes seconds of its own and
# adds nothing here, and with what waits side by side.
sed -i 's/^func TestFileCacheSurvivesAKilledWriter(/func omittedFileCacheKill(/; s/^func TestSimulation(/func omittedSimulation(/' ./*_test.go
sed -i 's/testing.Short()/true/' filecache_unix_synctest_test.go processes_test.go
sed -i 's/^\tflag.Parse()$/&\n\tflag.Set("test.parallel", "16")/' testing_test.go

cp -r "$work/original" "$work/copy"
go run ./testdata/mutation "$work/original" "$work/copy"
