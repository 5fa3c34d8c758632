#!/bin/sh
set -e
hsmemu lesson expect --card lab state=operational so_pin.tries_left=15
hsmemu lesson expect --card spare --kept keys.*.label=wages
HSMEMU_PIN=648219 hsmemu lesson expect --card lab --takes user-pin
HSMEMU_SO_PIN=3537363231383830 hsmemu lesson expect --card lab --takes so-pin
