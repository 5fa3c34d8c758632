#!/bin/sh
hsmemu lesson expect --card alice keys.*.label=signing --seen 'command=WRAP KEY,sw=9000' && test -s signing.wrap
