#!/bin/sh
set -e
hsmemu lesson expect --card second state=operational keys.count=0 --seen 'command=INITIALIZE DEVICE,sw=9000'
HSMEMU_PIN=648219 hsmemu lesson expect --card second --takes user-pin
HSMEMU_SO_PIN=3537363231383830 hsmemu lesson expect --card second --takes so-pin
hsmemu lesson expect --card first --kept state=operational
