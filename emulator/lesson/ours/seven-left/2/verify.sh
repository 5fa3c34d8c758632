#!/bin/sh
set -e
hsmemu lesson expect --card lab --kept so_pin.tries_left=7 user_pin.tries_left=3 --seen 'command=SIGN,subject=*ECDSA SHA-256,sw=9000'
echo 'pay 100 to Alice' | cmp - order
# What follows is done with a copy of the card, and in a folder of its own.
copy=copy-$$
dir=$(mktemp -d)
trap 'rm -rf "$dir"; hsmemu card rm --force "$copy"' EXIT
hsmemu card copy lab "$copy" 2> "$dir/said"
hsmemu exec --card "$copy" -- pkcs11-tool --verify --mechanism ECDSA-SHA256 --id 10 --input-file order --signature-file order.sig > "$dir/said" 2>&1 && grep -q 'Signature is valid' "$dir/said" || { echo 'order.sig is not a signature of order by that key'; exit 1; }
