#!/bin/sh
set -e
hsmemu lesson expect --card lab user_pin.tries_left=2 --seen 'subject=user PIN,query=false,sw=63C2'
test -e log || { echo 'that was not ./wages'; exit 1; }
