#!/bin/sh
hsmemu lesson expect --card lab so_pin.tries_left=14 state=operational
