#!/bin/sh
hsmemu lesson expect --card lab user_pin.tries_left=3 so_pin.tries_left=15
