#!/bin/sh
set -e
for number in 1 3; do
    hsmemu lesson expect --card vault --seen "command=EXTERNAL AUTHENTICATE,subject=DENK040418$number*,sw=9000"
done
# Both at once: only then the card says that the user is logged in.
hsmemu lesson expect --card vault --seen 'subject=user PIN,query=true,sw=9000'
