#!/bin/sh
set -e
# The same share twice makes a DKEK of zeros, whose key check value everybody knows.
hsmemu lesson expect --card alice 'key_domains.*.shares=2,missing=0,kcv!=66687AADF862BD77' --seen 'command=MANAGE KEY DOMAIN*,sw=9000'
for share in one.pbe two.pbe; do
    test "$(wc -c < $share)" -eq 64 && test "$(head -c 8 $share)" = Salted__ || { echo "$share is not a share"; exit 1; }
done
! cmp -s one.pbe two.pbe || { echo 'one.pbe and two.pbe are the same share'; exit 1; }
