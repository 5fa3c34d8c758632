#!/bin/sh
hsmemu lesson expect --card lab so_pin.tries_left=14 state=operational --kept keys.*.label=first --seen 'command=INITIALIZE DEVICE,sw=63CE'
