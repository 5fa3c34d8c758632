#!/bin/sh
hsmemu lesson expect --card first state=operational user_pin.tries_left=3 && hsmemu lesson expect --card first --seen 'command=CHANGE REFERENCE DATA,sw=9000'
