#!/bin/sh
hsmemu lesson expect --card bob key_domains.*.missing=0 keys.*.label=signing keys.count=1
