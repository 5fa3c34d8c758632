#!/bin/sh
set -e
kcv=$(hsmemu card show alice --json | sed -n 's/.*"kcv": "\(.*\)".*/\1/p')
hsmemu lesson expect --card bob "key_domains.*.missing=0,kcv=$kcv" 'keys.*.label=signing,id=10' keys.count=1 --seen 'command=UNWRAP KEY,sw=9000'
