#!/bin/sh
set -e
hsmemu lesson expect --card lab --kept keys.*.label=first --seen 'command=CHANGE REFERENCE DATA,subject=SO-PIN,sw=9000'
HSMEMU_SO_PIN=0123456789ABCDEF hsmemu lesson expect --card lab --takes so-pin
