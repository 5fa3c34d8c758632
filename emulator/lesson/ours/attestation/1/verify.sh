#!/bin/sh
set -e
hsmemu lesson expect --card lab keys.count=1 'keys.*.id=10,curve=secp256r1' --seen 'command=GENERATE*,sw=9000'
hsmemu attest mine.pka > /dev/null
test "$(hsmemu attest mine.pka)" = "$(hsmemu attest --card lab --key 1)" || { echo 'mine.pka is not about key 1 of your card'; exit 1; }
