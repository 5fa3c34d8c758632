#!/bin/sh
hsmemu lesson expect --card lab keys.*.label=first keys.*.curve=secp256r1 keys.*.id=10
