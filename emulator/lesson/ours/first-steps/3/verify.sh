#!/bin/sh
hsmemu lesson expect --card lab 'keys.*.label=first,curve=secp256r1,id=10' --seen 'command=GENERATE*,sw=9000'
