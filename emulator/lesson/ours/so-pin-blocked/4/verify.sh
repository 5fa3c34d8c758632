#!/bin/sh
hsmemu lesson expect --card lab state=operational so_pin.tries_left=15 && hsmemu lesson expect --card spare keys.count=1
