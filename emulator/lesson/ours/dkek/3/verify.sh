#!/bin/sh
set -e
hsmemu lesson expect --card alice keys.count=1 'keys.*.label=signing,id=10,curve=secp256r1,reference=1' --seen 'command=WRAP KEY,sw=9000'
# What follows is done with a copy of the card, and in a folder of its own.
copy=copy-$$
dir=$(mktemp -d)
trap 'rm -rf "$dir"; hsmemu card rm --force "$copy"' EXIT
hsmemu card copy alice "$copy" 2> "$dir/said"
hsmemu exec --card "$copy" -- sc-hsm-tool --unwrap-key signing.wrap --key-reference 2 --pin 648219 > "$dir/said" 2>&1 || { echo 'signing.wrap does not unwrap on this card'; exit 1; }
hsmemu lesson expect --card "$copy" 'keys.*.label=signing,reference=2'
