#!/bin/sh
set -e
hsmemu lesson expect --card first state=operational user_pin.tries_left=3 --seen 'command=CHANGE REFERENCE DATA,subject=transport PIN,sw=9000' --unseen 'command=INITIALIZE DEVICE,sw=9000'
HSMEMU_PIN=648219 hsmemu lesson expect --card first --takes user-pin
