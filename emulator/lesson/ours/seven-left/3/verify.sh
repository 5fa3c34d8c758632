#!/bin/sh
hsmemu lesson expect --card lab so_pin.tries_left=6 --kept 'so_pin.tries_left>=6' --kept keys.*.label=wages --seen 'command=INITIALIZE DEVICE,sw=63C6'
