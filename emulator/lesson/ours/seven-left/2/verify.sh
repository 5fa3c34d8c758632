#!/bin/sh
hsmemu lesson expect --card lab so_pin.tries_left=7 user_pin.tries_left=3 --seen command=SIGN,sw=9000
