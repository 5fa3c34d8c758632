#!/bin/sh
hsmemu lesson expect --card lab so_pin.tries_left=15 user_pin.tries_left=3 keys.*.label=wages
