#!/bin/sh
set -e
hsmemu lesson expect --card alice keys.count=1 --seen 'command=DELETE FILE,subject=key ?,sw=9000'
hsmemu lesson expect --card alice --seen 'command=UNWRAP KEY,sw=9000'
test -s key.wrap
