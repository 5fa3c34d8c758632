#!/bin/sh
hsmemu lesson expect --card bob key_domains.*.missing=1 keys.count=0 --seen 'command=UNWRAP KEY,sw=6*'
