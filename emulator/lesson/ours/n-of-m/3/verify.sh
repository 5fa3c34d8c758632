#!/bin/sh
set -e
hsmemu lesson expect --card alice keys.count=1 --seen 'command=DELETE FILE,subject=key ?,sw=9000'
hsmemu lesson expect --card alice --seen 'command=UNWRAP KEY,sw=9000'
# What follows is done with a copy of the card, and in a folder of its own.
copy=copy-$$
dir=$(mktemp -d)
trap 'rm -rf "$dir"; hsmemu card rm --force "$copy"' EXIT
hsmemu card copy alice "$copy" 2> "$dir/said"
hsmemu exec --card "$copy" -- sc-hsm-tool --unwrap-key key.wrap --key-reference 2 --pin 648219 > "$dir/said" 2>&1 || { echo 'key.wrap does not unwrap on this card'; exit 1; }
