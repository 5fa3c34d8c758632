#!/bin/sh
hsmemu lesson expect --card lab so_pin.tries_left=7 user_pin.tries_left=2 --seen 'subject=SO-PIN,query=true'
