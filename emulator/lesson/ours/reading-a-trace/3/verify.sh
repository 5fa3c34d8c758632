#!/bin/sh
hsmemu lesson expect --card lab user_pin.tries_left=3 --seen command=SIGN,sw=9000 && test -s order.sig
