#!/bin/sh
set -e
hsmemu lesson expect --card bob 'key_domains.*.shares=2,missing=1' keys.count=0 --after 'command=MANAGE KEY DOMAIN*,sw=9000,sent=32' --seen 'command=UNWRAP KEY,sw=6985'
HSMEMU_PIN=648219 hsmemu lesson expect --card bob --takes user-pin
HSMEMU_SO_PIN=3537363231383830 hsmemu lesson expect --card bob --takes so-pin
