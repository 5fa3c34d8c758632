#!/bin/sh
hsmemu lesson expect --card lab so_pin.tries_left=14 state=operational keys.*.label=first --seen 'command=INITIALIZE DEVICE,sw=63CE'
