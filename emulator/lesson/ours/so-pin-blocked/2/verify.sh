#!/bin/sh
set -e
hsmemu lesson expect --card spare --kept keys.*.label=wages --kept firmware=3.4 --seen 'command=GENERAL AUTHENTICATE'
hsmemu lesson expect --card spare --seen 'command=ENUMERATE OBJECTS,secure=true'
