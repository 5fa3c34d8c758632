#!/bin/sh
hsmemu lesson expect --card lab user_pin.tries_left=3 so_pin.tries_left=15 --seen 'command=RESET RETRY COUNTER,sw=9000'
