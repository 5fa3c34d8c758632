#!/bin/sh
set -e
hsmemu lesson expect --card lab user_pin.tries_left=3 so_pin.tries_left=15 --kept keys.*.label=wages --seen 'command=VERIFY,subject=user PIN,query=false,sw=9000' --unseen 'command=RESET RETRY COUNTER'
hsmemu lesson expect --card lab keys.count=1 --unseen 'command=INITIALIZE DEVICE,sw=9000'
