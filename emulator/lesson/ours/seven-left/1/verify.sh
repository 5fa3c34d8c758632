#!/bin/sh
set -e
hsmemu lesson expect --card lab --kept so_pin.tries_left=7 --kept user_pin.tries_left=2 --seen 'subject=SO-PIN,query=true'
hsmemu lesson expect --card lab --seen 'subject=user PIN,query=true'
