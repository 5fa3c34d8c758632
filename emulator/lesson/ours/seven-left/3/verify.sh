#!/bin/sh
hsmemu lesson expect --card lab so_pin.tries_left=6 keys.count=1
