#!/bin/sh
hsmemu lesson expect --card lab so_pin.tries_left=15 keys.count=1 --seen 'command=RESET RETRY COUNTER,sw=9000'
