#!/bin/sh
set -e
hsmemu lesson expect --card lab user_pin.tries_left=3 so_pin.tries_left=15 --kept keys.*.label=wages --seen 'command=RESET RETRY COUNTER,sw=9000' --unseen 'command=INITIALIZE DEVICE,sw=9000'
HSMEMU_PIN=648219 hsmemu lesson expect --card lab --takes user-pin
