#!/bin/sh
hsmemu lesson expect --card lab 'keys.*.label=first,curve=secp256r1,id=10'
