#!/bin/sh
set -e
hsmemu card new lab --like so=15,user=3,options=0001
hsmemu card new supplier --like so=15,user=3,options=0001
hsmemu exec --card supplier -- sh -c '
    pkcs11-tool --login --pin 648219 --keypairgen --key-type EC:secp256r1 --id 01 --label product
    sc-hsm-tool --export-for-pub-key-auth ada.pka --key-reference 1'
cp ada.pka ben.pka
printf forged | dd of=ben.pka bs=1 seek=90 conv=notrunc 2>/dev/null
