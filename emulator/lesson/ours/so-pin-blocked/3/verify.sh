#!/bin/sh
set -e
hsmemu lesson expect --card lab state=uninitialised serial!=DENK0404144 keys.count=0 --seen command=FINALISE,sw=9000
hsmemu lesson expect --card spare --kept keys.*.label=wages
