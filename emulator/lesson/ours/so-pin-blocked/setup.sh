#!/bin/sh
set -e
hsmemu card new lab --like so=1,user=3,options=0001,firmware=3.4 --serial DENK0404144
hsmemu card new spare --like so=15,user=3,options=0001,firmware=3.4 --serial DENK0404145
hsmemu exec --card lab --card spare -- sh -c 'for reader in 0 1; do
pkcs11-tool --slot-index $reader --login --pin 648219 --keypairgen --key-type EC:secp256r1 --id 10 --label wages
done'
