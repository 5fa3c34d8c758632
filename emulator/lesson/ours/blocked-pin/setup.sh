#!/bin/sh
set -e
hsmemu card new lab --like so=15,user=3,options=0001
hsmemu exec --card lab -- pkcs11-tool --login --pin 648219 --keypairgen --key-type EC:secp256r1 --id 10 --label wages
