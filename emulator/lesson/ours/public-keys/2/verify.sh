#!/bin/sh
set -e
hsmemu lesson expect --card vault public_key_authentication.registered=3
for number in 1 2 3; do
    hsmemu lesson expect --card vault --seen "command=MANAGE PUBLIC KEY*,subject=DENK040418$number*,sw=9000"
done
