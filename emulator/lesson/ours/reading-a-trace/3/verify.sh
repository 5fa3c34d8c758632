#!/bin/sh
set -e
hsmemu lesson expect --card lab user_pin.tries_left=3 --seen command=SIGN,sw=9000
test -s order.sig
# What follows is done with a copy of the card, and in a folder of its own.
copy=copy-$$
dir=$(mktemp -d)
trap 'rm -rf "$dir"; hsmemu card rm --force "$copy"' EXIT
hsmemu card copy lab "$copy" 2> "$dir/said"
cp wages pin order "$dir"
(cd "$dir" && hsmemu exec --card "$copy" -- ./wages && test -s order.sig)
