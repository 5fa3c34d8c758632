#!/bin/sh
set -e
hsmemu lesson expect --card lab --seen 'command=SIGN,subject=*ECDSA SHA-256,sw=9000'
# What follows is done with a copy of the card, and in a folder of its own.
copy=copy-$$
dir=$(mktemp -d)
trap 'rm -rf "$dir"; hsmemu card rm --force "$copy"' EXIT
hsmemu card copy lab "$copy" 2> "$dir/said"
hsmemu exec --card "$copy" -- pkcs11-tool --read-object --type pubkey --id 10 --output-file "$dir/public.der" > "$dir/said" 2>&1
cmp public.der "$dir/public.der"
echo 'pay 100 to Alice' | cmp - order
openssl dgst -sha256 -verify public.der -keyform DER -signature order.sig order
