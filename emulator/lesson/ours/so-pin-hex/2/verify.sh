#!/bin/sh
set -e
hsmemu lesson expect --card lab so_pin.tries_left=15 --kept keys.*.label=first --seen 'command=RESET RETRY COUNTER,sw=9000' --unseen 'command=INITIALIZE DEVICE,sw=9000'
HSMEMU_PIN=135790 hsmemu lesson expect --card lab --takes user-pin
