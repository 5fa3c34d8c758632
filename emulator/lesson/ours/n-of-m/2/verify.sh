#!/bin/sh
hsmemu lesson expect --card alice 'key_domains.*.shares=1,missing=0' --seen 'command=MANAGE KEY DOMAIN*,sw=9000' --unseen 'command=INITIALIZE DEVICE,sw=9000'
