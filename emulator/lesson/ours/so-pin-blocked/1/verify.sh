#!/bin/sh
set -e
hsmemu lesson expect --card spare --kept so_pin.tries_left=15 --kept keys.*.label=wages
hsmemu lesson expect --card lab so_pin.state=blocked
