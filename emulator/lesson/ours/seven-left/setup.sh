#!/bin/sh
set -e
hsmemu card new lab --like so=7,user=2,options=0001,firmware=3.2
hsmemu exec --card lab -- pkcs11-tool --login --pin 648219 --keypairgen --key-type EC:secp256r1 --id 10 --label wages
hsmemu exec --card lab -- pkcs11-tool --login --pin 000000 --list-objects || true
echo 'pay 100 to Alice' > order
echo 3537363231383830 > envelope
