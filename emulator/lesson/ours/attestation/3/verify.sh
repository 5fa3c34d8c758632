#!/bin/sh
set -e
hsmemu lesson expect --card lab keys.count=0 --seen 'command=DELETE FILE,subject=key 1,sw=9000'
hsmemu attest mine.pka > /dev/null
made_in() { hsmemu attest "$@" | grep '^device DENK.*issued by'; }
test "$(made_in mine.pka)" = "$(made_in --card lab)" || { echo 'mine.pka is not about a key of your card'; exit 1; }
