#!/bin/sh
hsmemu lesson expect --card alice keys.count=1 --seen 'command=UNWRAP KEY,sw=9000'
